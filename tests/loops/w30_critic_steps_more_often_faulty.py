# the critic steps three times per generator step, under autocast, and clears late | W30 warning
import torch
import torch.nn.functional as F
from torch import nn


torch.manual_seed(8)
G = nn.Sequential(nn.Linear(4, 16), nn.ReLU(), nn.Linear(16, 2))
D = nn.Sequential(nn.Linear(2, 16), nn.LeakyReLU(0.2), nn.Linear(16, 1))
og = torch.optim.Adam([{"params": G[0].parameters(), "lr": 1e-4}, {"params": G[2].parameters()}], lr=1e-3)
od = torch.optim.SGD(D.parameters(), lr=1e-3, momentum=0.5)
for step in range(30):
    with torch.autocast("cpu", dtype=torch.bfloat16):
        fake = G(torch.randn(32, 4))
        loss = F.softplus(D(fake.detach())).mean() + F.softplus(-D(torch.randn(32, 2) + 3)).mean()
    loss.backward()
    od.step()
    od.zero_grad(set_to_none=True)
    if step % 3 == 2:
        og.zero_grad()
        with torch.autocast("cpu", dtype=torch.bfloat16):
            loss = F.softplus(-D(G(torch.randn(32, 4)))).mean()
        loss.backward()
        og.step()
