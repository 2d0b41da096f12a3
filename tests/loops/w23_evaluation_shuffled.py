# healthy: the training sampler gets its epoch, that of the validation is shuffled and does not
import torch
import torch.nn.functional as F
from torch import nn
from torch.utils.data import DataLoader, DistributedSampler, TensorDataset

torch.manual_seed(0)
x = torch.randn(96, 10)
data = TensorDataset(x, (x[:, 0] > 0).long())
net = nn.Sequential(nn.Linear(10, 16), nn.ReLU(), nn.Linear(16, 2))
optimizer = torch.optim.Adam(net.parameters(), lr=3e-3)

train = DataLoader(data, 8, sampler=(sampler := DistributedSampler(data, 2, 0)))
held_out = TensorDataset(torch.randn(48, 10), torch.zeros(48, dtype=torch.long))
test = DataLoader(held_out, 8, sampler=DistributedSampler(held_out, 2, 0, shuffle=True))
for epoch in range(4):
    sampler.set_epoch(epoch)
    net.train()
    for a, b in train:
        optimizer.zero_grad()
        F.cross_entropy(net(a), b).backward()
        optimizer.step()

    net.eval()
    with torch.no_grad():
        print(sum(F.cross_entropy(net(a), b).item() for a, b in test))
