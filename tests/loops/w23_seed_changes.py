# healthy: the sampler's seed changes every epoch, its epoch does not
import torch
import torch.nn.functional as F
from torch import nn
from torch.utils.data import DataLoader, DistributedSampler, TensorDataset

torch.manual_seed(2)
x = torch.randn(96, 10)
data = TensorDataset(x, (x[:, 0] > 0).long())
net = nn.Sequential(nn.Linear(10, 16), nn.ReLU(), nn.Linear(16, 2))
optimizer = torch.optim.Adam(net.parameters(), lr=3e-3)

sampler = DistributedSampler(data, num_replicas=2, rank=1, seed=5)
loader = DataLoader(data, 8, sampler=sampler)
for epoch in range(4):
    sampler.seed = 100 * epoch
    for a, b in loader:
        optimizer.zero_grad()
        F.cross_entropy(net(a), b).backward()
        optimizer.step()
