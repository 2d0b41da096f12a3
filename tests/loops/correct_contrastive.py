# Two forwards per window, one backward through both; a target network that is only averaged | nothing above a note
import copy

import torch
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
target = copy.deepcopy(model)
optimizer = torch.optim.SGD(model.parameters(), lr=0.05)
for x, _ in batches(14):
    one, two = (model(x), model(x + 0.1 * torch.randn_like(x)))
    aim = target(x).detach()
    loss = (one - two).square().mean() + (one - aim).square().mean()
    optimizer.zero_grad()
    loss.backward()
    optimizer.step()
    with torch.no_grad():
        for slow, fast in zip(target.parameters(), model.parameters(), strict=True):
            slow.lerp_(fast, 0.1)
