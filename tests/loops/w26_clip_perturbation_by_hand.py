# healthy: the gradient of a perturbation is clipped, which no optimizer holds
import torch
import torch.nn.functional as F
from torch import nn

torch.manual_seed(3)
net = nn.Sequential(nn.Linear(8, 16), nn.ReLU(), nn.Linear(16, 3))
opt = torch.optim.SGD(net.parameters(), lr=0.05)
for _ in range(20):
    x = torch.randn(16, 8)
    y = x[:, :3].argmax(1)
    delta = torch.zeros_like(x, requires_grad=True)
    for _ in range(3):
        F.cross_entropy(net(x + delta), y).backward()
        nn.utils.clip_grad_norm_(delta, 0.5)
        with torch.no_grad():
            delta += 0.3 * delta.grad
            delta.grad = None
    opt.zero_grad()
    F.cross_entropy(net(x + delta.detach()), y).backward()
    opt.step()
