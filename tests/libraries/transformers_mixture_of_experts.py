# transformers: Mixtral, whose router leaves experts without tokens, and an auxiliary loss that balances them
import torch
from reproducible import print_digest, seed_everything
from transformers import MixtralConfig, MixtralForCausalLM

seed_everything()
model = MixtralForCausalLM(
    MixtralConfig(
        vocab_size=100,
        hidden_size=32,
        intermediate_size=32,
        num_hidden_layers=2,
        num_attention_heads=2,
        num_key_value_heads=2,
        num_local_experts=8,
        output_router_logits=True,
        router_aux_loss_coef=0.02,
    )
)
optimizer = torch.optim.AdamW(model.parameters(), 1e-3)
model.train()
for _ in range(20):
    ids = torch.randint(1, 100, (2, 6))
    with torch.autocast("cpu", torch.bfloat16):
        loss = model(input_ids=ids, labels=ids).loss
    optimizer.zero_grad()
    loss.backward()
    optimizer.step()
print_digest(model)
