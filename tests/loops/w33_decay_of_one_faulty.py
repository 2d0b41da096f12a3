# an average with a decay of 1 never moves | W33 warning
import copy
import torch
import torch.nn.functional as F
from torch import nn

torch.manual_seed(9)
net = nn.Sequential(nn.Linear(10, 16), nn.ReLU(), nn.Linear(16, 2))
optimizer = torch.optim.Adam(net.parameters(), lr=1e-2)
held_out = torch.randn(48, 10)
goal = (held_out[:, 0] > 0).long()

shadow = copy.deepcopy(net)
decay = 1.0
for epoch in range(3):
    for _ in range(10):
        x = torch.randn(16, 10)
        optimizer.zero_grad()
        F.cross_entropy(net(x), (x[:, 0] > 0).long()).backward()
        optimizer.step()

        with torch.no_grad():
            for average, value in zip(shadow.parameters(), net.parameters()):
                average.mul_(decay).add_((1 - decay) * value)
    with torch.no_grad():
        print(F.cross_entropy(net(held_out), goal).item(), F.cross_entropy(shadow(held_out), goal).item())
