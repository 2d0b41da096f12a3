# healthy: a batch of a shuffled validation sampler is evaluated after every few steps
import torch
import torch.nn.functional as F
from torch import nn
from torch.utils.data import DataLoader, DistributedSampler, TensorDataset

torch.manual_seed(3)
x = torch.randn(96, 10)
data = TensorDataset(x, (x[:, 0] > 0).long())
net = nn.Sequential(nn.Linear(10, 16), nn.ReLU(), nn.Linear(16, 2))
optimizer = torch.optim.Adam(net.parameters(), lr=3e-3)

sampler = DistributedSampler(data, num_replicas=2, rank=1)
held_out = TensorDataset(torch.randn(32, 10), torch.zeros(32, dtype=torch.long))
test = DataLoader(held_out, 4, sampler=DistributedSampler(held_out, 2, 1))
batches = iter(test)
for epoch in range(6):
    sampler.set_epoch(epoch)
    for step, (a, b) in enumerate(DataLoader(data, 8, sampler=sampler)):
        optimizer.zero_grad()
        F.cross_entropy(net(a), b).backward()
        optimizer.step()
        if step % 2:
            try:
                c, d = next(batches)
            except StopIteration:
                batches = iter(test)
                c, d = next(batches)
            with torch.no_grad():
                F.cross_entropy(net(c), d).item()
