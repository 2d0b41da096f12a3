# peft: prompt tuning; the only parameters are the embeddings of the prompt
import torch
from peft import PromptTuningConfig, get_peft_model
from reproducible import print_digest, seed_everything
from transformers import GPT2Config, GPT2LMHeadModel

seed_everything()
base = GPT2LMHeadModel(GPT2Config(vocab_size=100, n_positions=32, n_embd=32, n_layer=2, n_head=2))
model = get_peft_model(base, PromptTuningConfig(task_type="CAUSAL_LM", num_virtual_tokens=4))
optimizer = torch.optim.AdamW(model.parameters(), 1e-2)
model.train()
for _ in range(24):
    ids = torch.randint(0, 100, (4, 16))
    loss = model(input_ids=ids, labels=ids).loss
    optimizer.zero_grad()
    loss.backward()
    optimizer.step()
print_digest(model)
