# healthy: the critic accumulates its loss and its penalty by two backwards
import torch
import torch.nn.functional as F
from torch import nn


torch.manual_seed(6)
G, D = nn.Linear(4, 2), nn.Sequential(nn.Linear(2, 16), nn.Tanh(), nn.Linear(16, 1))
og, od = torch.optim.RMSprop(G.parameters(), lr=1e-3), torch.optim.RMSprop(D.parameters(), lr=1e-3)
for _ in range(25):
    od.zero_grad()
    real, fake = torch.randn(32, 2) + 3, G(torch.randn(32, 4)).detach()
    (D(fake).mean() - D(real).mean()).backward()
    real.requires_grad_()
    (grad,) = torch.autograd.grad(D(real).sum(), real, create_graph=True)
    (grad.norm(dim=1) - 1).square().mean().backward()
    od.step()
    og.zero_grad()
    (-D(G(torch.randn(32, 4))).mean()).backward()
    og.step()
