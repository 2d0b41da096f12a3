# gradients are clipped after the step that used them | W26 fault
import torch
import torch.nn.functional as F
from torch import nn

torch.manual_seed(15)
net = nn.Sequential(nn.Linear(6, 12), nn.ReLU(), nn.Linear(12, 4))
opt = torch.optim.AdamW(net.parameters(), lr=2e-3)
scheduler = torch.optim.lr_scheduler.StepLR(opt, 10)
for _ in range(18):
    x = torch.randn(24, 6)
    opt.zero_grad()
    F.cross_entropy(net(x), x[:, :4].argmax(1)).backward()
    opt.step()
    scheduler.step()
    torch.nn.utils.clip_grad_norm_(net.parameters(), 0.5, norm_type=1.0)
