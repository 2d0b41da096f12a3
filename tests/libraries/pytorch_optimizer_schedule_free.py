# pytorch_optimizer: a schedule-free optimizer, which has a training and an evaluation mode of its own
import torch
from pytorch_optimizer import ScheduleFreeAdamW
from reproducible import print_digest, seed_everything
from torch import nn

seed_everything()
model = nn.Sequential(nn.Linear(20, 32), nn.ReLU(), nn.Dropout(0.1), nn.Linear(32, 5))
optimizer = ScheduleFreeAdamW(model.parameters(), 1e-3, warmup_steps=5)
for _ in range(3):
    model.train()
    optimizer.train()
    for _ in range(12):
        optimizer.zero_grad()
        nn.functional.cross_entropy(model(torch.randn(16, 20)), torch.randint(0, 5, (16,))).backward()
        optimizer.step()
    model.eval()
    optimizer.eval()
    with torch.no_grad():
        model(torch.randn(16, 20))
print_digest(model)
