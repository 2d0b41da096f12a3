# healthy: dropout by default, and the whole held-out set is predicted ten times
import torch
import torch.nn.functional as F
from torch import nn


class Net(nn.Module):
    def __init__(self):
        super().__init__()
        self.a, self.b = nn.Linear(12, 32), nn.Linear(32, 3)
    def forward(self, x):
        return self.b(F.dropout(self.a(x).relu(), 0.2))

torch.manual_seed(1)
net = Net()

X, Y = torch.randn(160, 12), torch.randint(0, 3, (160,))
optimizer = torch.optim.Adam(net.parameters(), lr=3e-3)
for epoch in range(3):
    net.train()
    for i in range(0, 128, 32):
        optimizer.zero_grad()
        F.cross_entropy(net(X[i : i + 32]), Y[i : i + 32]).backward()
        optimizer.step()

net.eval()
with torch.no_grad():
    draws = [torch.cat([net(x) for x in X[128:].clone().split(16)]) for _ in range(10)]
print(torch.stack(draws).std(0).mean().item())
