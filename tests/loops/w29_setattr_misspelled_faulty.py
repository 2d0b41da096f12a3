# setattr with a misspelled name freezes nothing | W29 warning
import torch
import torch.nn.functional as F
from torch import nn


torch.manual_seed(10)
net = nn.Sequential(nn.Linear(8, 16), nn.ReLU(), nn.Linear(16, 3))
for p in net[0].parameters():
    setattr(p, "requires_grads", False)
optimizer = torch.optim.Adam(net.parameters(), lr=1e-2, foreach=True)

for _ in range(15):
    x = torch.randn(16, 8)
    optimizer.zero_grad()
    F.cross_entropy(net(x), x[:, :3].argmax(1)).backward()
    optimizer.step()
