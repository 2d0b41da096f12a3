# short last window | nothing above a note
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
data = batches(15)
for _ in range(3):
    for start in range(0, len(data), 4):
        window = data[start : start + 4]
        for x, y in window:
            (F.cross_entropy(model(x), y) / len(window)).backward()
        optimizer.step()
        optimizer.zero_grad()
