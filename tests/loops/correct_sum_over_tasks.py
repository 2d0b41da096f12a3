# Several heads on one backbone, with one backward for each of their losses | nothing above a note
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


backbone, heads = (network(), nn.ModuleList((nn.Linear(4, 4) for _ in range(3))))
optimizer = torch.optim.AdamW([*backbone.parameters(), *heads.parameters()], lr=0.01)
for x, y in batches(14):
    optimizer.zero_grad()
    features = backbone(x)
    for number, head in enumerate(heads):
        F.cross_entropy(head(features), y).backward(retain_graph=number < 2)
    optimizer.step()
