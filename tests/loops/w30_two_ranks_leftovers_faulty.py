# two ranks: the generator's loss leaves gradients in the critic | W30 warning
import copy
import torch
import torch.nn.functional as F
from torch import nn


import torch.distributed as dist
from torch.nn.parallel import DistributedDataParallel as DDP

if __name__ == "__main__":
    dist.init_process_group("gloo")
    torch.manual_seed(5)
    G = DDP(nn.Sequential(nn.Linear(4, 16), nn.ReLU(), nn.Linear(16, 2)))
    D = DDP(nn.Sequential(nn.Linear(2, 16), nn.ReLU(), nn.Linear(16, 1)))
    og, od = torch.optim.Adam(G.parameters(), lr=1e-3), torch.optim.Adam(D.parameters(), lr=1e-3)
    for step in range(15):
        F.softplus(-D(G(torch.randn(16, 4)))).mean().backward()
        og.step()
        og.zero_grad()
        with torch.no_grad():
            fake = G(torch.randn(16, 4))
        (F.softplus(D(fake)) + F.softplus(-D(torch.randn(16, 2) + 2))).mean().backward()
        od.step()
        od.zero_grad()
    dist.destroy_process_group()
