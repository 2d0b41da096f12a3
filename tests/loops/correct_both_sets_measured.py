# Training loss, on a part of the training set, and validation loss are both measured in evaluation mode | nothing above a note
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


model = network(dropout=0.2)
optimizer = torch.optim.AdamW(model.parameters(), lr=0.01)
training, held_out = (batches(16), batches(3, seed=9))
for _ in range(3):
    for x, y in training:
        optimizer.zero_grad()
        F.cross_entropy(model(x), y).backward()
        optimizer.step()
    model.eval()
    with torch.inference_mode():
        for part in (training[:3], held_out):
            sum((F.cross_entropy(model(x), y) for x, y in part))
    model.train()
