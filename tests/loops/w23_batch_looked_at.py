# healthy: a batch is looked at before and after every epoch
import torch
import torch.nn.functional as F
from torch import nn
from torch.utils.data import DataLoader, DistributedSampler, TensorDataset

torch.manual_seed(1)
x = torch.randn(96, 10)
data = TensorDataset(x, (x[:, 0] > 0).long())
net = nn.Sequential(nn.Linear(10, 16), nn.ReLU(), nn.Linear(16, 2))
optimizer = torch.optim.Adam(net.parameters(), lr=3e-3)

sampler = DistributedSampler(data, num_replicas=2, rank=1, shuffle=True)
loader = DataLoader(data, 8, sampler=sampler)
print(next(iter(loader))[0].shape)
for epoch in range(4):
    sampler.set_epoch(epoch)
    first, _ = next(iter(loader))
    for a, b in loader:
        optimizer.zero_grad()
        F.cross_entropy(net(a), b).backward()
        optimizer.step()

    again, _ = next(iter(loader))
