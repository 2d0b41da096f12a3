# a generator makes samples of fixed noise after every epoch; the critic scores real ones; right: quiet: nothing above a note
import torch
from torch import nn
from torch.nn import functional as F

torch.manual_seed(0)
G = nn.Sequential(nn.Linear(8, 16), nn.BatchNorm1d(16), nn.ReLU(), nn.Linear(16, 12))
D = nn.Sequential(nn.Linear(12, 16), nn.LeakyReLU(0.2), nn.Linear(16, 1))
g, d = (torch.optim.Adam(net.parameters(), 1e-3, betas=(0.5, 0.999)) for net in (G, D))
real, fixed_noise = torch.randn(120, 12) + 1, torch.randn(16, 8)
for epoch in range(4):
    for x in real[torch.randperm(120)].split(12):
        fake = G(torch.randn(12, 8))
        loss = F.softplus(-D(x)).mean() + F.softplus(D(fake.detach())).mean()
        d.zero_grad()
        loss.backward()
        d.step()
        loss = F.softplus(-D(fake)).mean()
        g.zero_grad()
        loss.backward()
        g.step()
    G.eval()
    with torch.no_grad():
        samples = G(fixed_noise)
        print("critic on real ones", torch.cat([D(x) for x in real[:48].split(12)]).mean().item())
    G.train()
