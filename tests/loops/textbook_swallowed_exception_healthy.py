# an exception that is ignored leaves a term of the loss out; corrected
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
optimizer = torch.optim.AdamW(model.parameters(), lr=0.01)
for x, y in batches(14):
    out = model(x)
    loss = F.cross_entropy(out, y)
    loss = loss + 0.1 * out.square().mean()
    optimizer.zero_grad()
    loss.backward()
    optimizer.step()
