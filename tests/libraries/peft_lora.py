# peft: LoRA, whose B is zero at first, so that A has no gradient in the first step; one adapter with dropout
import torch
from peft import LoraConfig, get_peft_model
from reproducible import print_digest, seed_everything
from transformers import GPT2Config, GPT2LMHeadModel

seed_everything()
base = GPT2LMHeadModel(GPT2Config(vocab_size=100, n_positions=32, n_embd=32, n_layer=2, n_head=2))
config = LoraConfig(r=4, lora_alpha=8, target_modules=["c_attn"], lora_dropout=0.1, task_type="CAUSAL_LM")
model = get_peft_model(base, config)
optimizer = torch.optim.AdamW((one for one in model.parameters() if one.requires_grad), 1e-2)
model.train()
for step in range(48):
    ids = torch.randint(0, 100, (4, 16))
    loss = model(input_ids=ids, labels=ids).loss / 2
    loss.backward()
    if step % 2:
        optimizer.step()
        optimizer.zero_grad()
print_digest(model)
