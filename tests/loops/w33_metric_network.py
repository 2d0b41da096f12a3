# healthy: a fixed network of another shape measures what is made
import copy
import torch
import torch.nn.functional as F
from torch import nn


torch.manual_seed(6)
judge, net = nn.Sequential(nn.Linear(2, 8), nn.Tanh(), nn.Linear(8, 4)), nn.Linear(10, 2)
optimizer = torch.optim.SGD(net.parameters(), lr=0.1)
for epoch in range(4):
    for _ in range(10):
        x = torch.randn(16, 10)
        optimizer.zero_grad()
        F.cross_entropy(net(x), (x[:, 0] > 0).long()).backward()
        optimizer.step()

    with torch.no_grad():
        print(judge(net(torch.randn(32, 10))).std(0).sum().item())
