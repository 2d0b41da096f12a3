# huber_loss without reduction, weighted by sample, of [B, 1] and [B]
import torch
import torch.nn.functional as F
from torch import nn

torch.manual_seed(0)
from torch.nn.functional import huber_loss as huber

model = nn.Linear(5, 1)
optimizer = torch.optim.Adam(model.parameters(), lr=1e-2)
for _ in range(20):
    x, importance = torch.randn(12, 5), torch.rand(12)
    loss = (huber(model(x), x[:, 0], reduction="none") * importance).mean()
    optimizer.zero_grad()
    loss.backward()
    optimizer.step()
