# set_epoch always gets 0, and batches come from a BatchSampler | W23 fault
import torch
import torch.nn.functional as F
from torch import nn
from torch.utils.data import DataLoader, DistributedSampler, TensorDataset


from torch.utils.data import BatchSampler

torch.manual_seed(8)
x = torch.randn(96, 10)
data = TensorDataset(x, (x[:, 0] > 0).long())
one, other = nn.Linear(10, 16), nn.Linear(16, 2)
optimizers = [torch.optim.SGD(part.parameters(), lr=0.05) for part in (one, other)]
sampler = DistributedSampler(data, num_replicas=3, rank=2)
loader = DataLoader(data, batch_sampler=BatchSampler(sampler, 4, drop_last=False))
for epoch in range(3):
    sampler.set_epoch(0)
    for a, b in loader:
        loss = F.cross_entropy(other(one(a).relu()), b)
        for optimizer in optimizers:
            optimizer.zero_grad()
        loss.backward()
        for optimizer in optimizers:
            optimizer.step()
