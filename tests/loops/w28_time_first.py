# a time-first LSTM: [time, samples, features], and one target for each sample
import torch
import torch.nn.functional as F
from torch import nn

torch.manual_seed(0)
lstm, out = nn.LSTM(6, 16), nn.Linear(16, 3)
net = nn.ModuleList([lstm, out])
optimizer = torch.optim.Adam(net.parameters(), lr=5e-3)
for _ in range(14):
    x = torch.randn(9, 20, 6)
    loss = F.cross_entropy(out(lstm(x)[0][-1]), x.sum(0)[:, :3].argmax(1))
    optimizer.zero_grad()
    loss.backward()
    optimizer.step()
