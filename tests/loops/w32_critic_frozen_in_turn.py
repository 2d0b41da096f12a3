# healthy: the critic is frozen only while the generator trains
import torch
import torch.nn.functional as F
from torch import nn


torch.manual_seed(1)
G = nn.Sequential(nn.Linear(4, 8), nn.BatchNorm1d(8), nn.ReLU(), nn.Linear(8, 2))
D = nn.Sequential(nn.Linear(2, 16), nn.BatchNorm1d(16), nn.ReLU(), nn.Linear(16, 1))
og, od = torch.optim.Adam(G.parameters(), lr=1e-3), torch.optim.Adam(D.parameters(), lr=1e-3)
for _ in range(20):
    D.requires_grad_(True)
    od.zero_grad()
    (F.softplus(D(G(torch.randn(16, 4)).detach())) + F.softplus(-D(torch.randn(16, 2)))).mean().backward()
    od.step()
    D.requires_grad_(False)
    og.zero_grad()
    F.softplus(-D(G(torch.randn(16, 4)))).mean().backward()
    og.step()
