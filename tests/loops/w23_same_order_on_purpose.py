# healthy: not shuffled, on purpose: the distributed sampler of a series, and mixed labels in a fixed order
import torch
import torch.nn.functional as F
from torch import nn
from torch.utils.data import DataLoader, DistributedSampler, TensorDataset

torch.manual_seed(5)
x = torch.randn(96, 10)
data = TensorDataset(x, (x[:, 0] > 0).long())
net = nn.Sequential(nn.Linear(10, 16), nn.ReLU(), nn.Linear(16, 2))
optimizer = torch.optim.Adam(net.parameters(), lr=3e-3)

series = DataLoader(data, 8, sampler=DistributedSampler(data, 2, 0, shuffle=False))
fixed = DataLoader(data, 16)
for epoch in range(3):
    for a, b in series:
        optimizer.zero_grad()
        F.cross_entropy(net(a), b).backward()
        optimizer.step()

    for a, b in fixed:
        optimizer.zero_grad()
        F.cross_entropy(net(a), b).backward()
        optimizer.step()
