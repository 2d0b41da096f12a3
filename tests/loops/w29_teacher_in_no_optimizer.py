# healthy: the flag is set on a teacher, which no optimizer holds anyway
import torch
import torch.nn.functional as F
from torch import nn


torch.manual_seed(4)
teacher, net = nn.Linear(8, 3), nn.Sequential(nn.Linear(8, 16), nn.ReLU(), nn.Linear(16, 3))
teacher.requires_grad = False
optimizer = torch.optim.Adam(net.parameters(), lr=1e-3)
for _ in range(20):
    x = torch.randn(16, 8)
    with torch.no_grad():
        goal = teacher(x).softmax(1)
    optimizer.zero_grad()
    F.cross_entropy(net(x), goal).backward()
    optimizer.step()
