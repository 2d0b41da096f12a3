# healthy: a compiled model with dropout is evaluated, and compiled once for each mode
import copy
import torch
import torch.nn.functional as F
from torch import nn


class Net(nn.Module):
    def __init__(self):
        super().__init__()
        self.a, self.b = nn.Linear(12, 32), nn.Linear(32, 3)
    def forward(self, x):
        return self.b(F.dropout(self.a(x).relu(), 0.2, self.training))

torch.manual_seed(4)
net = torch.compile(Net(), backend="aot_eager")
opt = torch.optim.Adam(net.parameters(), lr=1e-2)
for epoch in range(3):
    net.train()
    for _ in range(8):
        x = torch.randn(16, 12)
        opt.zero_grad()
        F.cross_entropy(net(x), x[:, :3].argmax(1)).backward()
        opt.step()
    net.eval()
    with torch.no_grad():
        print(net(torch.randn(16, 12)).mean().item())
