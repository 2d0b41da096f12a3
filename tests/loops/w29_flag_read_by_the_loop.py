# healthy: the loop reads the flag that it sets, and does without the backbone's gradients
import torch
import torch.nn.functional as F
from torch import nn


torch.manual_seed(3)
backbone, head = nn.Sequential(nn.Linear(8, 16), nn.ReLU()), nn.Linear(16, 3)
backbone.requires_grad = True
optimizer = torch.optim.SGD([*backbone.parameters(), *head.parameters()], lr=0.1)
for step in range(24):
    if step == 16:
        backbone.requires_grad = False
    x = torch.randn(16, 8)
    h = backbone(x) if backbone.requires_grad else backbone(x).detach()
    optimizer.zero_grad()
    F.cross_entropy(head(h), x[:, :3].argmax(1)).backward()
    optimizer.step()
