# the gradient of singular vectors with equal singular values is not finite; corrected as the finding advises
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
optimizer = torch.optim.AdamW(model.parameters(), lr=0.01)
for x, _ in batches(14):
    optimizer.zero_grad()
    out = model(x)
    vectors, _, _ = torch.linalg.svd(out.mT @ out + torch.eye(4))
    vectors.square()[:, 0].sum().backward()
    if torch.isfinite(torch.nn.utils.clip_grad_norm_(model.parameters(), 1.0)):
        optimizer.step()
