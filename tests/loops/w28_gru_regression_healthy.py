# a GRU without batch_first, a regression of [B, 1], and a short last batch | corrected
import torch
import torch.nn.functional as F
from torch import nn

torch.manual_seed(0)
gru, out = nn.GRU(4, 8, num_layers=2, batch_first=True), nn.Linear(8, 1)
net = nn.ModuleList([gru, out])
criterion = nn.MSELoss()
optimizer = torch.optim.RMSprop(net.parameters(), lr=1e-3)
data = torch.randn(44, 5, 4)
for epoch in range(4):
    for x in data.split(12):
        hidden, _ = gru(x)
        loss = criterion(out(hidden[:, -1, :]), x.mean((1, 2))[:, None])
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
