# batches come from an endless generator that never sets the epoch | W23 fault
import torch
import torch.nn.functional as F
from torch import nn
from torch.utils.data import DataLoader, DistributedSampler, TensorDataset

torch.manual_seed(6)
x = torch.randn(96, 10)
data = TensorDataset(x, (x[:, 0] > 0).long())
net = nn.Sequential(nn.Linear(10, 16), nn.ReLU(), nn.Linear(16, 2))
optimizer = torch.optim.Adam(net.parameters(), lr=3e-3)

def endless(loader):
    while True:
        yield from loader

stream = endless(DataLoader(data, 8, sampler=DistributedSampler(data, num_replicas=2, rank=0, drop_last=True)))
for step in range(30):
    a, b = next(stream)
    with torch.autocast("cpu", dtype=torch.bfloat16):
        loss = F.cross_entropy(net(a), b)
    optimizer.zero_grad()
    loss.backward()
    optimizer.step()
