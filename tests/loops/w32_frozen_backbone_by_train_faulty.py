# a frozen backbone stays in training mode, its model is called by parts | W32 note
import torch
import torch.nn.functional as F
from torch import nn


class Backbone(nn.Sequential):
    pass

torch.manual_seed(0)
backbone = Backbone(nn.Linear(8, 16), nn.BatchNorm1d(16), nn.ReLU()).requires_grad_(False)
net = nn.Sequential(backbone, nn.Linear(16, 3))
optimizer = torch.optim.Adam(net[1].parameters(), lr=1e-2)
net.train()
for _ in range(35):
    x = torch.randn(16, 8) * 3 + 2
    optimizer.zero_grad()
    F.cross_entropy(net(x), x[:, :3].argmax(1)).backward()
    optimizer.step()

net.eval()
with torch.no_grad():
    print(net(torch.randn(16, 8)).std().item())
