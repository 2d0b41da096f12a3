# healthy: the norm is logged after the step, with no limit
import torch
import torch.nn.functional as F
from torch import nn

torch.manual_seed(6)
net = nn.Sequential(nn.Linear(6, 12), nn.ReLU(), nn.Linear(12, 4))
opt = torch.optim.AdamW(net.parameters(), lr=2e-3)
norms = []
for _ in range(25):
    x = torch.randn(24, 6)
    opt.zero_grad(set_to_none=True)
    F.cross_entropy(net(x), x[:, :4].argmax(1)).backward()
    opt.step()
    norms.append(float(nn.utils.clip_grad_norm_(net.parameters(), float("inf"))))
print(max(norms))
