# healthy: a class has its own requires_grad, which its forward reads
import torch
import torch.nn.functional as F
from torch import nn


class Backbone(nn.Module):
    def __init__(self, requires_grad=True):
        super().__init__()
        self.layer = nn.Linear(8, 16)
        self.requires_grad = requires_grad
    def forward(self, x):
        with torch.set_grad_enabled(self.requires_grad):
            return self.layer(x).relu()

torch.manual_seed(1)
net = nn.Sequential(Backbone(), nn.Linear(16, 3))
optimizer = torch.optim.SGD(net.parameters(), lr=0.1)
for step in range(20):
    if step == 12:
        net[0].requires_grad = False
    x = torch.randn(16, 8)
    optimizer.zero_grad()
    F.cross_entropy(net(x), x[:, :3].argmax(1)).backward()
    optimizer.step()
