# the backbone is frozen by requires_grad, and stays in the optimizer; right: quiet: nothing above a note
import torch
from torch import nn
from torch.nn import functional as F

torch.manual_seed(0)
backbone, head = nn.Sequential(nn.Linear(10, 32), nn.ReLU()), nn.Linear(32, 2)
backbone.requires_grad_(False)
optimizer = torch.optim.AdamW([*backbone.parameters(), *head.parameters()], 1e-2)
for _ in range(25):
    x = torch.randn(16, 10)
    optimizer.zero_grad()
    F.cross_entropy(head(backbone(x)), (x[:, 0] > 0).long()).backward()
    optimizer.step()
