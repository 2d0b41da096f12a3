# a flag on the backbone of a compiled model freezes nothing | W29 warning
import copy
import torch
import torch.nn.functional as F
from torch import nn


torch.manual_seed(2)
net = nn.Sequential(nn.Sequential(nn.Linear(6, 12), nn.ReLU()), nn.Linear(12, 4))
net[0].requires_grad = False
net.compile(backend="aot_eager")
opt = torch.optim.AdamW(net.parameters(), lr=2e-3)
for _ in range(15):
    x = torch.randn(24, 6)
    opt.zero_grad()
    F.cross_entropy(net(x), x[:, :4].argmax(1)).backward()
    opt.step()
