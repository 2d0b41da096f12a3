# each sample is compared with every center; there are as many centers as samples
import torch
import torch.nn.functional as F
from torch import nn

torch.manual_seed(0)
encoder = nn.Linear(8, 1)
centers = torch.linspace(-1, 1, 16)
optimizer = torch.optim.Adam(encoder.parameters(), lr=1e-2)
for _ in range(16):
    x = torch.randn(16, 8)
    loss = ((encoder(x) - centers) ** 2).mean()
    optimizer.zero_grad()
    loss.backward()
    optimizer.step()
