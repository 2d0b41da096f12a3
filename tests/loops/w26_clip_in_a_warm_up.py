# healthy: gradients are clipped in the first steps only
import torch
import torch.nn.functional as F
from torch import nn

torch.manual_seed(8)
net = nn.Sequential(nn.Linear(6, 12), nn.ReLU(), nn.Linear(12, 4))
opt = torch.optim.AdamW(net.parameters(), lr=2e-3)
for step in range(30):
    x = torch.randn(24, 6)
    opt.zero_grad(set_to_none=True)
    F.cross_entropy(net(x), x[:, :4].argmax(1)).backward()
    nn.utils.clip_grad_norm_(net.parameters() if step < 8 else [], 1.0)
    opt.step()
