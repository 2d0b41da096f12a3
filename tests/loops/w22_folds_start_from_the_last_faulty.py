# every fold should start from the first state, which is a shallow copy | W22 fault
import copy
import torch
import torch.nn.functional as F
from torch import nn


torch.manual_seed(8)
net = nn.Sequential(nn.Linear(6, 12), nn.GELU(), nn.Linear(12, 3))
start = dict(net.state_dict())
for fold in range(3):
    net.load_state_dict(start)
    opt = torch.optim.SGD([{"params": net[0].parameters()}, {"params": net[2].parameters(), "lr": 0.2}], lr=0.1)
    for _ in range(10):
        x = torch.randn(16, 6)
        opt.zero_grad()
        F.cross_entropy(net(x), x[:, :3].argmax(1)).backward()
        opt.step()
