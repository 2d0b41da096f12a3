# the optimizer has used up the generator of parameters that is clipped | W26 fault
import torch
import torch.nn.functional as F
from torch import nn

torch.manual_seed(10)
net = nn.Sequential(nn.Linear(6, 12), nn.ReLU(), nn.Linear(12, 4))
trained = net.parameters()
opt = torch.optim.AdamW(trained, lr=2e-3)
for _ in range(12):
    x = torch.randn(24, 6)
    opt.zero_grad()
    F.cross_entropy(net(x), x[:, :4].argmax(1)).backward()
    nn.utils.clip_grad_norm_(trained, 0.01)
    opt.step()
