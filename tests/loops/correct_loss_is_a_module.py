# loss is a module | nothing above a note
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


class Objective(nn.Module):
    def __init__(self):
        super().__init__()
        self.model, self.temperature = (network(), nn.Parameter(torch.tensor(1.0)))

    def forward(self, x, y):
        return {"loss": F.cross_entropy(self.model(x) * self.temperature, y), "size": len(x)}


objective = Objective()
optimizer = torch.optim.AdamW(objective.parameters(), lr=0.01, fused=True)
for number, (x, y) in enumerate(batches(24), 1):
    (objective(x, y)["loss"] / 2).backward()
    if number % 2 == 0:
        optimizer.step()
        objective.zero_grad()
