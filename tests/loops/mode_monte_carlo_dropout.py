# own | healthy: Monte Carlo dropout of an ensemble in training mode: the same inputs are predicted again and again
import torch
import torch.nn.functional as F
from torch import nn

torch.manual_seed(0)
X = torch.randn(200, 4)
y = X[:, :1].sin()
ensemble = []
for _ in range(3):
    net = nn.Sequential(nn.Linear(4, 32), nn.ReLU(), nn.Dropout(0.2), nn.Linear(32, 1))
    opt = torch.optim.Adam(net.parameters(), 1e-2)
    for _ in range(4):
        for batch in torch.randperm(160).split(20):
            opt.zero_grad()
            F.mse_loss(net(X[batch]), y[batch]).backward()
            opt.step()
    ensemble.append(net)
for net in ensemble:
    net.train()
with torch.no_grad():
    drawn = torch.stack([net(X[160:]) for net in ensemble for _ in range(10)])
print(drawn.std(0).mean())
