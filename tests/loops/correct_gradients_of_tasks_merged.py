# Each task's gradients are taken separately, and the step takes a combination of them | nothing above a note
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


model, heads = (network(), nn.ModuleList((nn.Linear(4, 4) for _ in range(2))).requires_grad_(False))
optimizer = torch.optim.Adam(model.parameters(), lr=0.01)
for x, y in batches(14):
    found = []
    for head in heads:
        optimizer.zero_grad()
        F.cross_entropy(head(model(x)), y).backward()
        found.append([parameter.grad.clone() for parameter in model.parameters()])
    for parameter, one, other in zip(model.parameters(), *found, strict=True):
        parameter.grad = one + other * ((one * other).sum() > 0)
    optimizer.step()
