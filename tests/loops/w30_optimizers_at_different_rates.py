# healthy: the head steps once in four batches, on the mean of their gradients
import torch
import torch.nn.functional as F
from torch import nn


torch.manual_seed(3)
body, head = nn.Sequential(nn.Linear(6, 16), nn.ReLU()), nn.Linear(16, 2)
fast, slow = torch.optim.Adam(body.parameters(), lr=1e-3), torch.optim.Adam(head.parameters(), lr=1e-3)
for step in range(32):
    x = torch.randn(16, 6)
    fast.zero_grad()
    F.cross_entropy(head(body(x)), (x[:, 0] > 0).long()).backward()
    fast.step()
    if step % 4 == 3:
        for p in head.parameters():
            p.grad /= 4
        slow.step()
        slow.zero_grad()
