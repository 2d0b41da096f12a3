# healthy: a momentum encoder needs no gradient, follows the trained one, and keeps its own statistics
import torch
import torch.nn.functional as F
from torch import nn


import copy

torch.manual_seed(2)
query = nn.Sequential(nn.Linear(8, 16), nn.BatchNorm1d(16), nn.ReLU(), nn.Linear(16, 8))
key = copy.deepcopy(query).requires_grad_(False)
optimizer = torch.optim.SGD(query.parameters(), lr=0.05)
for _ in range(25):
    x = torch.randn(16, 8)
    q = F.normalize(query(x), dim=1)
    with torch.no_grad():
        k = F.normalize(key(x + 0.1 * torch.randn_like(x)), dim=1)
    optimizer.zero_grad()
    F.cross_entropy(q @ k.T / 0.1, torch.arange(16)).backward()
    optimizer.step()
    with torch.no_grad():
        for a, b in zip(key.parameters(), query.parameters()):
            a.lerp_(b, 0.05)
