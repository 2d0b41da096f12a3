# after some epochs the backbone should train as well, but only the module gets the flag | W29 warning
import torch
import torch.nn.functional as F
from torch import nn


torch.manual_seed(11)
net = nn.Sequential(nn.Sequential(nn.Linear(8, 16), nn.ReLU()), nn.Linear(16, 3))
net[0].requires_grad_(False)
optimizer = torch.optim.SGD(net.parameters(), lr=0.1)
for epoch in range(3):
    if epoch == 1:
        net[0].requires_grad = True
    for _ in range(12):
        x = torch.randn(16, 8)
        optimizer.zero_grad()
        F.cross_entropy(net(x), x[:, :3].argmax(1)).backward()
        optimizer.step()
