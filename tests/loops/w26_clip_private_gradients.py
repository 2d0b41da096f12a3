# healthy: each sample's gradient is clipped, added up, and cleared (DP-SGD)
import torch
import torch.nn.functional as F
from torch import nn

torch.manual_seed(4)
net = nn.Linear(6, 3)
opt = torch.optim.SGD(net.parameters(), lr=0.1)
for _ in range(15):
    x = torch.randn(4, 6)
    sums = [torch.zeros_like(p) for p in net.parameters()]
    for one in x:
        opt.zero_grad()
        F.cross_entropy(net(one[None]), one[:3].argmax()[None]).backward()
        nn.utils.clip_grad_norm_(net.parameters(), 0.7)
        for total, p in zip(sums, net.parameters()):
            total += p.grad
    opt.zero_grad()
    for total, p in zip(sums, net.parameters()):
        p.grad = (total + 0.01 * torch.randn_like(total)) / len(x)
    opt.step()
