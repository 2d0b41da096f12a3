# the generator that is clipped is used up; the model is compiled | W26 fault
import copy
import torch
import torch.nn.functional as F
from torch import nn


torch.manual_seed(0)
net = torch.compile(nn.Sequential(nn.Linear(6, 12), nn.ReLU(), nn.Linear(12, 4)), backend="aot_eager")
weights = (p for p in net.parameters() if p.requires_grad)
opt = torch.optim.AdamW(net.parameters(), lr=2e-3)
for _ in range(15):
    x = torch.randn(24, 6)
    opt.zero_grad()
    F.cross_entropy(net(x), x[:, :4].argmax(1)).backward()
    nn.utils.clip_grad_norm_(weights, 0.1)
    opt.step()
