# healthy: the critic needs no gradient while the generator trains
import torch
import torch.nn.functional as F
from torch import nn


torch.manual_seed(4)
G, D = nn.Linear(4, 2), nn.Sequential(nn.Linear(2, 16), nn.ReLU(), nn.Linear(16, 1))
og, od = torch.optim.Adam(G.parameters(), lr=1e-3), torch.optim.Adam(D.parameters(), lr=1e-3)
for _ in range(25):
    D.requires_grad_(False)
    fake = G(torch.randn(32, 4))
    (-D(fake).mean()).backward()
    og.step()
    og.zero_grad()
    D.requires_grad_(True)
    (D(fake.detach()).mean() - D(torch.randn(32, 2) + 3).mean()).backward()
    od.step()
    od.zero_grad()
