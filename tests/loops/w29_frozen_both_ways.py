# healthy: parameters are frozen, and their module gets a flag as well
import torch
import torch.nn.functional as F
from torch import nn


torch.manual_seed(0)
net = nn.Sequential(nn.Sequential(nn.Linear(8, 16), nn.ReLU()), nn.Linear(16, 3))
net[0].requires_grad = False
for p in net[0].parameters():
    p.requires_grad = False
optimizer = torch.optim.Adam(net[1].parameters())

for _ in range(15):
    x = torch.randn(16, 8)
    optimizer.zero_grad()
    F.cross_entropy(net(x), x[:, :3].argmax(1)).backward()
    optimizer.step()
