# a ranking compares scores [B, 1] with those of a bank [B], by softplus
import torch
import torch.nn.functional as F
from torch import nn

torch.manual_seed(0)
scorer = nn.Linear(8, 1)
optimizer = torch.optim.Adam(scorer.parameters(), lr=1e-2)
for _ in range(16):
    better, worse = torch.randn(10, 8) + 0.5, torch.randn(10, 8)
    with torch.no_grad():
        bank = scorer(worse).squeeze(1)
    loss = F.softplus(bank - scorer(better)).mean()
    optimizer.zero_grad()
    loss.backward()
    optimizer.step()
