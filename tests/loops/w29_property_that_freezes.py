# healthy: requires_grad is a property of the class, and freezes
import torch
import torch.nn.functional as F
from torch import nn


class Freezable(nn.Sequential):
    @property
    def requires_grad(self):
        return all(p.requires_grad for p in self.parameters())
    @requires_grad.setter
    def requires_grad(self, value):
        for p in self.parameters():
            p.requires_grad_(value)

torch.manual_seed(2)
backbone = Freezable(nn.Linear(8, 16), nn.ReLU())
backbone.requires_grad = False
net = nn.Sequential(backbone, nn.Linear(16, 3))
optimizer = torch.optim.AdamW([p for p in net.parameters() if p.requires_grad], lr=1e-2)

for _ in range(15):
    x = torch.randn(16, 8)
    optimizer.zero_grad()
    F.cross_entropy(net(x), x[:, :3].argmax(1)).backward()
    optimizer.step()
