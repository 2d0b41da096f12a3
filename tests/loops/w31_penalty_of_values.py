# a penalty is computed of the parameters' .data, so it trains nothing
import torch
import torch.nn.functional as F
from torch import nn

torch.manual_seed(0)
model = nn.Sequential(nn.Linear(8, 8), nn.ReLU(), nn.Linear(8, 1))
optimizer = torch.optim.Adam(model.parameters(), lr=1e-2)
for _ in range(16):
    x = torch.randn(12, 8)
    y = x[:, :1]
    penalty = sum(parameter.data.pow(2).sum() for parameter in model.parameters())
    loss = F.mse_loss(model(x), y) + 0.01 * penalty
    optimizer.zero_grad()
    loss.backward()
    optimizer.step()
