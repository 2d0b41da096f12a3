# healthy: a class reads a flag of its own with a similar name
import torch
import torch.nn.functional as F
from torch import nn


class Block(nn.Module):
    def __init__(self, require_grad=False):
        super().__init__()
        self.require_grad = require_grad
        self.layer = nn.Linear(8, 16)
    def forward(self, x):
        return self.layer(x).relu() * (1.0 if self.require_grad else 0.5)

torch.manual_seed(6)
net = nn.Sequential(Block(), nn.Linear(16, 3))
optimizer = torch.optim.Adagrad(net.parameters(), lr=0.1)

for _ in range(15):
    x = torch.randn(16, 8)
    optimizer.zero_grad()
    F.cross_entropy(net(x), x[:, :3].argmax(1)).backward()
    optimizer.step()
