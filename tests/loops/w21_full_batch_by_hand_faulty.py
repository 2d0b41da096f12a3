# all samples at once: absolute errors by hand, of [B] and [B, 1], with the same data in every step
import torch
import torch.nn.functional as F
from torch import nn

torch.manual_seed(0)
x = torch.randn(40, 5)
y = x.sum(dim=1)
net = nn.Linear(5, 1)
optimizer = torch.optim.SGD(net.parameters(), lr=0.01)
for epoch in range(20):
    error = y - net(x)
    loss = torch.abs(error).mean()
    optimizer.zero_grad()
    loss.backward()
    optimizer.step()
