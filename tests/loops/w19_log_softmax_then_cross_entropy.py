# log_softmax before cross_entropy changes nothing, because it is its own log_softmax
import torch
import torch.nn.functional as F
from torch import nn

torch.manual_seed(0)
model = nn.Sequential(nn.Linear(8, 4), nn.LogSoftmax(dim=-1))
optimizer = torch.optim.Adam(model.parameters(), lr=1e-2)
for _ in range(16):
    x = torch.randn(12, 8)
    loss = F.cross_entropy(model(x), x[:, :4].argmax(1))
    optimizer.zero_grad()
    loss.backward()
    optimizer.step()
