# normalization layers of a new network are in evaluation mode while it trains | W32 note
import torch
import torch.nn.functional as F
from torch import nn


torch.manual_seed(6)
net = nn.Sequential(nn.Unflatten(1, (2, 4)), nn.Conv1d(2, 8, 3), nn.BatchNorm1d(8), nn.ReLU(), nn.Flatten(), nn.Linear(16, 3))
net.train()
for part in net.modules():
    if isinstance(part, nn.modules.batchnorm._BatchNorm):
        part.eval()
optimizer = torch.optim.RMSprop(net.parameters(), lr=1e-3)
for _ in range(30):
    x = torch.randn(16, 8) * 3 + 2
    optimizer.zero_grad()
    with torch.autocast("cpu", dtype=torch.bfloat16):
        loss = F.cross_entropy(net(x), x[:, :3].argmax(1))
    loss.backward()
    optimizer.step()
