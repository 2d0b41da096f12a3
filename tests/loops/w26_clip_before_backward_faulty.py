# gradients are clipped between zero_grad() and backward() | W26 fault
import torch
import torch.nn.functional as F
from torch import nn

torch.manual_seed(13)
net = nn.Sequential(nn.Linear(6, 12), nn.ReLU(), nn.Linear(12, 1))
opt = torch.optim.SGD(net.parameters(), lr=1e-2, momentum=0.9)
for _ in range(20):
    x = torch.randn(24, 6)
    loss = F.mse_loss(net(x), x.sum(1, keepdim=True))
    opt.zero_grad()
    nn.utils.clip_grad_norm_(net.parameters(), 0.25)
    loss.backward()
    opt.step()
