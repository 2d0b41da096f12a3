# peft: DoRA on a frozen base with reentrant gradient checkpointing, and inputs that require gradients, as it needs
import torch
from peft import LoraConfig, get_peft_model
from reproducible import print_digest, seed_everything
from transformers import GPT2Config, GPT2LMHeadModel

seed_everything()
base = GPT2LMHeadModel(GPT2Config(vocab_size=100, n_positions=32, n_embd=32, n_layer=2, n_head=2, use_cache=False))
model = get_peft_model(base, LoraConfig(r=4, target_modules=["c_attn"], use_dora=True, task_type="CAUSAL_LM"))
model.enable_input_require_grads()
model.gradient_checkpointing_enable(gradient_checkpointing_kwargs={"use_reentrant": True})
optimizer = torch.optim.AdamW(model.parameters(), 1e-2)
model.train()
for _ in range(24):
    ids = torch.randint(0, 100, (4, 16))
    loss = model(input_ids=ids, labels=ids).loss
    optimizer.zero_grad()
    loss.backward()
    optimizer.step()
print_digest(model)
