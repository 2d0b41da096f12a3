# healthy: the loop itself drops inputs, also where it measures how robust the model is
import torch
import torch.nn.functional as F
from torch import nn


torch.manual_seed(6)
net = nn.Sequential(nn.Linear(12, 32), nn.Tanh(), nn.Linear(32, 3))

X, Y = torch.randn(160, 12), torch.randint(0, 3, (160,))
optimizer = torch.optim.Adam(net.parameters(), lr=3e-3)
for epoch in range(3):
    net.train()
    for i in range(0, 128, 32):
        optimizer.zero_grad()
        F.cross_entropy(net(X[i : i + 32]), Y[i : i + 32]).backward()
        optimizer.step()

    net.eval()
    with torch.no_grad():
        print(F.cross_entropy(net(F.dropout(X[128:], 0.3)), Y[128:]).item())
