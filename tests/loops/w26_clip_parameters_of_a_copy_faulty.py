# the clipped parameters are those of the model before it was copied | W26 fault
import copy
import torch
import torch.nn.functional as F
from torch import nn

torch.manual_seed(16)
initial = nn.Sequential(nn.Linear(6, 12), nn.ReLU(), nn.Linear(12, 4))
to_clip = list(initial.parameters())
net = copy.deepcopy(initial)
opt = torch.optim.NAdam(net.parameters(), lr=2e-3)
for _ in range(15):
    x = torch.randn(24, 6)
    opt.zero_grad()
    F.cross_entropy(net(x), x[:, :4].argmax(1)).backward()
    torch.nn.utils.clip_grad_norm_(to_clip, 0.5)
    opt.step()
