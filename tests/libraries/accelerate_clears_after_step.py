# accelerate: zero_grad() after step() within accumulate(), where it clears only after a real step; bfloat16
import torch
from accelerate import Accelerator
from reproducible import print_digest, seed_everything
from torch import nn
from torch.utils.data import DataLoader, TensorDataset

seed_everything()
accelerator = Accelerator(cpu=True, gradient_accumulation_steps=4, mixed_precision="bf16")
model = nn.Sequential(nn.Linear(20, 64), nn.ReLU(), nn.Linear(64, 5))
optimizer = torch.optim.AdamW(model.parameters(), 1e-3)
data = TensorDataset(torch.randn(320, 20), torch.randint(0, 5, (320,)))
model, optimizer, loader = accelerator.prepare(model, optimizer, DataLoader(data, 20, shuffle=True))
for _ in range(4):
    for x, y in loader:
        with accelerator.accumulate(model):
            loss = nn.functional.cross_entropy(model(x), y)
            accelerator.backward(loss)
            optimizer.step()
            optimizer.zero_grad()
print_digest(model)
