# nn.Dropout is made in forward(), where eval() does not reach it | W27 warning
import torch
import torch.nn.functional as F
from torch import nn


class Block(nn.Module):
    def __init__(self):
        super().__init__()
        self.layer = nn.Linear(12, 12)
    def forward(self, x):
        return x + nn.Dropout(0.2)(self.layer(x).relu())

torch.manual_seed(8)
net = nn.Sequential(Block(), Block(), nn.Linear(12, 3))

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
        print(F.cross_entropy(net(X[128:]), Y[128:]).item())
