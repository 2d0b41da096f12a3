# batch normalization with a momentum of 0 keeps its first statistics, accumulating | W32 note
import torch
import torch.nn.functional as F
from torch import nn


torch.manual_seed(5)
net = nn.Sequential(nn.Linear(8, 16), nn.BatchNorm1d(16, momentum=0.0), nn.ReLU(), nn.Linear(16, 3))
optimizer = torch.optim.SGD([{"params": net[:2].parameters()}, {"params": net[3].parameters(), "lr": 0.1}], lr=0.05)
for _ in range(30):
    x = torch.randn(16, 8) * 3 + 2
    optimizer.zero_grad()
    F.cross_entropy(net(x), x[:, :3].argmax(1)).backward()
    optimizer.step()

net.eval()
with torch.no_grad():
    print(net(torch.randn(16, 8)).std().item())
