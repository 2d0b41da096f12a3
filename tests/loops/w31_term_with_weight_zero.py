# a term that is switched off for a warm-up: its weight is 0 and it needs no gradient
import torch
import torch.nn.functional as F
from torch import nn

torch.manual_seed(0)
model, other = nn.Linear(8, 4), nn.Linear(8, 4)
optimizer = torch.optim.Adam(model.parameters(), lr=1e-2)
for epoch in range(16):
    x = torch.randn(12, 8)
    with torch.no_grad():
        extra = F.mse_loss(other(x), x[:, :4])
    loss = F.mse_loss(model(x), x[:, :4]) + 0.0 * extra
    optimizer.zero_grad()
    loss.backward()
    optimizer.step()
