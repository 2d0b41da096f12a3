# healthy: two models are trained in one pass each, over the same order
import torch
import torch.nn.functional as F
from torch import nn
from torch.utils.data import DataLoader, DistributedSampler, TensorDataset


torch.manual_seed(4)
x = torch.randn(96, 10)
data = TensorDataset(x, (x[:, 0] > 0).long())
sampler = DistributedSampler(data, num_replicas=2, rank=0)
loader = DataLoader(data, 4, sampler=sampler)
for width in (8, 16):
    net = nn.Sequential(nn.Linear(10, width), nn.ReLU(), nn.Linear(width, 2))
    optimizer = torch.optim.Adam(net.parameters(), lr=3e-3)
    for a, b in loader:
        optimizer.zero_grad()
        F.cross_entropy(net(a), b).backward()
        optimizer.step()
