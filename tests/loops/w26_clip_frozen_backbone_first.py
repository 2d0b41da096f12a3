# healthy: backbone and head are clipped by two limits, and the backbone is frozen at first
import torch
import torch.nn.functional as F
from torch import nn

torch.manual_seed(7)
backbone, head = nn.Sequential(nn.Linear(8, 16), nn.ReLU()), nn.Linear(16, 3)
backbone.requires_grad_(False)
opt = torch.optim.SGD([{"params": backbone.parameters(), "lr": 1e-3}, {"params": head.parameters()}], lr=1e-1)
for step in range(30):
    if step == 15:
        backbone.requires_grad_(True)
    x = torch.randn(16, 8)
    opt.zero_grad()
    F.cross_entropy(head(backbone(x)), x[:, :3].argmax(1)).backward()
    nn.utils.clip_grad_norm_(backbone.parameters(), 0.1)
    nn.utils.clip_grad_value_(head.parameters(), 1.0)
    opt.step()
