# InfoNCE over the columns of a square of similarities, by nll_loss
import torch
import torch.nn.functional as F
from torch import nn

torch.manual_seed(0)
left, right = nn.Linear(8, 6), nn.Linear(8, 6)
optimizer = torch.optim.Adam([*left.parameters(), *right.parameters()], lr=1e-2)
for _ in range(16):
    x = torch.randn(12, 8)
    scores = left(x) @ right(x + 0.1 * torch.randn_like(x)).T
    own = torch.arange(12)
    loss = F.nll_loss(F.log_softmax(scores, dim=0), own) + F.nll_loss(F.log_softmax(scores, dim=1), own)
    optimizer.zero_grad()
    loss.backward()
    optimizer.step()
