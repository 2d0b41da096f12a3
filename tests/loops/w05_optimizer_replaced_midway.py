# a new optimizer is made when layers are unfrozen, and the schedule keeps the old one | fault
import torch
import torch.nn.functional as F
from torch import nn

torch.manual_seed(0)
model = nn.Sequential(nn.Linear(8, 16), nn.ReLU(), nn.Linear(16, 4))

model[0].requires_grad_(False)
optimizer = torch.optim.Adam(model[2].parameters(), lr=1e-2)
schedule = torch.optim.lr_scheduler.ExponentialLR(optimizer, 0.9)
for step in range(40):
    if step == 15:
        model[0].requires_grad_(True)
        optimizer = torch.optim.Adam(model.parameters(), lr=1e-2)
    x = torch.randn(6, 8)
    optimizer.zero_grad()
    F.cross_entropy(model(x), x[:, :4].argmax(1)).backward()
    optimizer.step()
    schedule.step()
