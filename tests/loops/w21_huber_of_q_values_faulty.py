# Q-learning: q [B, 1] by gather, and a target [B], by SmoothL1Loss
import torch
import torch.nn.functional as F
from torch import nn

torch.manual_seed(0)
net, slow, criterion = nn.Linear(4, 3), nn.Linear(4, 3), nn.SmoothL1Loss()
optimizer = torch.optim.Adam(net.parameters(), lr=1e-3)
for _ in range(20):
    state, action, reward, following = torch.randn(32, 4), torch.randint(3, (32, 1)), torch.rand(32), torch.randn(32, 4)
    q = net(state).gather(1, action)
    with torch.no_grad():
        target = reward + 0.9 * slow(following).max(1).values
    loss = criterion(q, target)
    optimizer.zero_grad()
    loss.backward()
    nn.utils.clip_grad_norm_(net.parameters(), 1.0)
    optimizer.step()
