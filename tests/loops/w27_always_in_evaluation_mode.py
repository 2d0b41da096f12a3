# healthy: an agent never changes its mode, and its functional dropout belongs to its training
import torch
import torch.nn.functional as F
from torch import nn


class Agent(nn.Module):
    def __init__(self):
        super().__init__()
        self.a, self.b = nn.Linear(12, 32), nn.Linear(32, 3)
    def forward(self, x):
        return self.b(F.dropout(self.a(x).relu(), 0.2))

torch.manual_seed(7)
net = Agent()
net.eval()
optimizer = torch.optim.Adam(net.parameters(), lr=3e-3)
for _ in range(20):
    with torch.no_grad():
        action = net(torch.randn(1, 12)).argmax(1)
    x = torch.randn(32, 12)
    optimizer.zero_grad()
    F.cross_entropy(net(x), x[:, :3].argmax(1)).backward()
    optimizer.step()
