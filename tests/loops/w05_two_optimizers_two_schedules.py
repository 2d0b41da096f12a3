# two optimizers, each with a schedule of its own | nothing
import torch
import torch.nn.functional as F
from torch import nn

torch.manual_seed(0)
model = nn.Sequential(nn.Linear(8, 16), nn.ReLU(), nn.Linear(16, 4))

optimizers = [torch.optim.SGD(model[0].parameters(), lr=0.1), torch.optim.Adam(model[2].parameters(), lr=1e-2)]
schedules = [torch.optim.lr_scheduler.StepLR(optimizer, 10) for optimizer in optimizers]
for step in range(30):
    x = torch.randn(6, 8)
    model.zero_grad()
    F.cross_entropy(model(x), x[:, :4].argmax(1)).backward()
    for optimizer, schedule in zip(optimizers, schedules):
        optimizer.step()
        schedule.step()
