# what is evaluated is a copy from before the training, by mistake | W33 warning
import copy
import torch
import torch.nn.functional as F
from torch import nn

torch.manual_seed(10)
net = nn.Sequential(nn.Linear(10, 16), nn.ReLU(), nn.Linear(16, 2))
optimizer = torch.optim.Adam(net.parameters(), lr=1e-2)
held_out = torch.randn(48, 10)
goal = (held_out[:, 0] > 0).long()

models = {"net": copy.deepcopy(net)}
for epoch in range(4):
    for _ in range(10):
        x = torch.randn(16, 10)
        optimizer.zero_grad()
        F.cross_entropy(net(x), (x[:, 0] > 0).long()).backward()
        optimizer.step()

    for name, model in models.items():
        with torch.no_grad():
            print(name, F.cross_entropy(model(held_out), goal).item())
