# the epoch is set on the sampler of the validation, accumulating | W23 fault
import torch
import torch.nn.functional as F
from torch import nn
from torch.utils.data import DataLoader, DistributedSampler, TensorDataset

torch.manual_seed(7)
x = torch.randn(96, 10)
data = TensorDataset(x, (x[:, 0] > 0).long())
net = nn.Sequential(nn.Linear(10, 16), nn.ReLU(), nn.Linear(16, 2))
optimizer = torch.optim.Adam(net.parameters(), lr=3e-3)

train_sampler = DistributedSampler(data, num_replicas=1, rank=0, shuffle=True)
held_out = TensorDataset(torch.randn(32, 10), torch.zeros(32, dtype=torch.long))
val_sampler = DistributedSampler(held_out, num_replicas=1, rank=0)
train_loader = DataLoader(data, 8, sampler=train_sampler)
val_loader = DataLoader(held_out, 8, sampler=val_sampler)
for epoch in range(3):
    val_sampler.set_epoch(epoch)
    net.train()
    for i, (a, b) in enumerate(train_loader):
        (F.cross_entropy(net(a), b) / 2).backward()
        if i % 2:
            optimizer.step()
            optimizer.zero_grad()
    net.eval()
    with torch.no_grad():
        print(sum(F.cross_entropy(net(a), b).item() for a, b in val_loader))
