# two optimizers, and only their schedules are stepped; right: W11 fault
import torch
from torch import nn
from torch.nn import functional as F

torch.manual_seed(0)
a, b = nn.Linear(6, 6), nn.Linear(6, 2)
optimizers = [torch.optim.AdamW(part.parameters(), 1e-3) for part in (a, b)]
schedules = [torch.optim.lr_scheduler.CosineAnnealingLR(one, 30) for one in optimizers]
for _ in range(30):
    x = torch.randn(8, 6)
    for optimizer in optimizers:
        optimizer.zero_grad(set_to_none=True)
    F.cross_entropy(b(a(x).relu()), (x[:, 0] > 0).long()).backward()
    for schedule in schedules:
        schedule.step()
