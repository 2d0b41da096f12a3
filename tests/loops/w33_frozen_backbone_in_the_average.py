# healthy: the average of a model whose backbone is frozen differs in its head only
import copy
import torch
import torch.nn.functional as F
from torch import nn


torch.manual_seed(5)
net = nn.Sequential(nn.Sequential(nn.Linear(10, 64), nn.ReLU(), nn.Linear(64, 64), nn.ReLU()), nn.Linear(64, 2))
net[0].requires_grad_(False)
ema = copy.deepcopy(net)
optimizer = torch.optim.SGD(net[1].parameters(), lr=0.1)
held_out = torch.randn(48, 10)
for epoch in range(4):
    for _ in range(10):
        x = torch.randn(16, 10)
        optimizer.zero_grad()
        F.cross_entropy(net(x), (x[:, 0] > 0).long()).backward()
        optimizer.step()

        with torch.no_grad():
            for a, b in zip(ema.parameters(), net.parameters()):
                a.lerp_(b, 0.05)
    with torch.no_grad():
        print(ema(held_out).mean().item())
