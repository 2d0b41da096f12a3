# the averaged model is clipped, not the trained one | W26 warning
import torch
import torch.nn.functional as F
from torch import nn
from torch.optim.swa_utils import AveragedModel

torch.manual_seed(17)
net = nn.Sequential(nn.Linear(6, 12), nn.ReLU(), nn.Linear(12, 4))
ema = AveragedModel(net).requires_grad_(False)
opt = torch.optim.Adam(net.parameters(), lr=2e-3)
for _ in range(15):
    x = torch.randn(24, 6)
    opt.zero_grad()
    F.cross_entropy(net(x), x[:, :4].argmax(1)).backward()
    nn.utils.clip_grad_norm_(ema.parameters(), 0.5)
    opt.step()
    ema.update_parameters(net)
