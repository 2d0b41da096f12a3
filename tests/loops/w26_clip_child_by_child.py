# healthy: every child is clipped by itself, and activations have no parameters
import torch
from torch import nn
from torch.nn.utils import clip_grad_norm_

torch.manual_seed(0)
model = nn.Sequential(nn.Linear(6, 24), nn.Tanh(), nn.Dropout(0.1), nn.Linear(24, 1))
optimizer = torch.optim.SGD(model.parameters(), lr=1e-2, momentum=0.9)
for _ in range(30):
    x = torch.randn(16, 6)
    optimizer.zero_grad()
    (model(x) - 4 * x[:, :1]).square().mean().backward()
    for child in model.children():
        clip_grad_norm_(child.parameters(), 0.5)
    optimizer.step()
