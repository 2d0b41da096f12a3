# one long series, time first, with a target for each step
import torch
import torch.nn.functional as F
from torch import nn

torch.manual_seed(0)
gru, out = nn.GRU(4, 8), nn.Linear(8, 1)
net = nn.ModuleList([gru, out])
optimizer = torch.optim.Adam(net.parameters(), lr=5e-3)
for _ in range(14):
    x = torch.randn(30, 1, 4)
    loss = F.mse_loss(out(gru(x)[0]).squeeze(2), x.sum(2))
    optimizer.zero_grad()
    loss.backward()
    optimizer.step()
