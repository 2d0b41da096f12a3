# a generator is used up, between unscale_() and the scaler's step | W26 fault
import torch
import torch.nn.functional as F
from torch import nn

torch.manual_seed(19)
net = nn.Sequential(nn.Linear(6, 12), nn.ReLU(), nn.Linear(12, 4))
opt = torch.optim.AdamW(net.parameters(), lr=2e-3)
scaler = torch.amp.GradScaler("cpu", init_scale=256.0)
weights = (p for group in opt.param_groups for p in group["params"])
for _ in range(15):
    x = torch.randn(24, 6)
    scaler.scale(F.cross_entropy(net(x), x[:, :4].argmax(1))).backward()
    scaler.unscale_(opt)
    nn.utils.clip_grad_norm_(weights, 0.1)
    scaler.step(opt)
    scaler.update()
    opt.zero_grad()
