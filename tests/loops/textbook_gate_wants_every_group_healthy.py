# a step is skipped unless every part has a gradient, and one part is frozen; corrected as the finding advises
import math

import torch
import torch.nn.functional as F
from torch import nn


def network(dropout=0.0, seed=0):
    torch.manual_seed(seed)
    return nn.Sequential(nn.Linear(8, 16), nn.ReLU(), nn.Dropout(dropout), nn.Linear(16, 4))


def batches(count, size=6, seed=1):
    generator = torch.Generator().manual_seed(seed)
    return [
        (torch.randn(size, 8, generator=generator), torch.randint(4, (size,), generator=generator))
        for _ in range(count)
    ]


model = network()
model[0].requires_grad_(False)
optimizer = torch.optim.AdamW(model.parameters(), lr=0.01)
for x, y in batches(16):
    F.cross_entropy(model(x), y).backward()
    norms = [
        sum((p.grad.norm().item() for p in part.parameters() if p.grad is not None)) for part in (model[0], model[3])
    ]
    if all((math.isfinite(norm) for norm in norms)):
        optimizer.step()
    optimizer.zero_grad()
