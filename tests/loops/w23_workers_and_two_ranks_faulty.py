# two ranks with workers never set the epoch | W23 fault
import torch
import torch.nn.functional as F
from torch import nn
from torch.utils.data import DataLoader, DistributedSampler, TensorDataset


import torch.distributed as dist
from torch.nn.parallel import DistributedDataParallel

if __name__ == "__main__":
    dist.init_process_group("gloo")
    torch.manual_seed(9)
    x = torch.randn(128, 10)
    data = TensorDataset(x, (x[:, 0] > 0).long())
    net = DistributedDataParallel(nn.Sequential(nn.Linear(10, 16), nn.ReLU(), nn.Linear(16, 2)))
    optimizer = torch.optim.Adam(net.parameters(), lr=3e-3)
    loader = DataLoader(data, 4, sampler=DistributedSampler(data), num_workers=1)
    for epoch in range(2):
        for a, b in loader:
            optimizer.zero_grad()
            F.cross_entropy(net(a), b).backward()
            optimizer.step()
    dist.destroy_process_group()
