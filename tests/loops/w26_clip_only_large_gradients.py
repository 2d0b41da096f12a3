# healthy: only tensors with a large gradient are clipped, and there are none
import torch
import torch.nn.functional as F
from torch import nn

torch.manual_seed(2)
net = nn.Sequential(nn.Linear(4, 16), nn.ReLU(), nn.Linear(16, 2))
opt = torch.optim.Adam(net.parameters(), lr=1e-3)
for _ in range(30):
    x = torch.randn(32, 4)
    opt.zero_grad()
    F.cross_entropy(net(x), (x[:, 0] > 0).long()).backward()
    large = [p for p in net.parameters() if p.grad.norm() > 50]
    torch.nn.utils.clip_grad_norm_(large, 1.0)
    opt.step()
