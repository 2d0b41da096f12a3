# healthy: sharpness-aware minimization clips its first gradients only, and clears them
import torch
import torch.nn.functional as F
from torch import nn

torch.manual_seed(5)
net = nn.Sequential(nn.Linear(7, 14), nn.SiLU(), nn.Linear(14, 2))
base = torch.optim.SGD(net.parameters(), lr=0.05)
for _ in range(20):
    x = torch.randn(16, 7)
    y = (x[:, 1] > 0).long()
    F.cross_entropy(net(x), y).backward()
    nn.utils.clip_grad_norm_(net.parameters(), 1.0)
    with torch.no_grad():
        moved = [0.05 * p.grad.clone() for p in net.parameters()]
        for p, e in zip(net.parameters(), moved):
            p.add_(e)
    base.zero_grad()
    F.cross_entropy(net(x), y).backward()
    with torch.no_grad():
        for p, e in zip(net.parameters(), moved):
            p.sub_(e)
    base.step()
    base.zero_grad()
