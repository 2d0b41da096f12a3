# similarities [B, B] are compared with a matrix of targets
import torch
import torch.nn.functional as F
from torch import nn

torch.manual_seed(0)
encoder = nn.Linear(8, 6)
optimizer = torch.optim.Adam(encoder.parameters(), lr=1e-2)
for _ in range(16):
    x = torch.randn(12, 8)
    z = F.normalize(encoder(x), dim=1)
    loss = F.mse_loss(z @ z.T, torch.eye(12)) + ((z.T @ z - torch.eye(6)) ** 2).mean()
    optimizer.zero_grad()
    loss.backward()
    optimizer.step()
