# two branches with a backward each; zero_grad in the one that steps, before its backward | fault
import torch
import torch.nn.functional as F
from torch import nn

torch.manual_seed(0)
model = nn.Sequential(nn.Linear(8, 16), nn.ReLU(), nn.Linear(16, 4))

optimizer = torch.optim.SGD(model.parameters(), lr=0.05)
for number in range(1, 49):
    x = torch.randn(6, 8)
    if number % 4:
        (F.cross_entropy(model(x), x[:, :4].argmax(1)) / 4).backward()
    else:
        optimizer.zero_grad()
        (F.cross_entropy(model(x), x[:, :4].argmax(1)) / 4).backward()
        optimizer.step()
