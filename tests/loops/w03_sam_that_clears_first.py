# sharpness-aware: two backwards per step, cleared in between after the parameters moved | nothing
import torch
import torch.nn.functional as F
from torch import nn

torch.manual_seed(0)
model = nn.Sequential(nn.Linear(8, 16), nn.ReLU(), nn.Linear(16, 4))

optimizer = torch.optim.SGD(model.parameters(), lr=0.05, momentum=0.9)
for step in range(20):
    x = torch.randn(6, 8)
    y = x[:, :4].argmax(1)
    optimizer.zero_grad()
    F.cross_entropy(model(x), y).backward()
    shifts = [0.05 * p.grad / (p.grad.norm() + 1e-12) for p in model.parameters()]
    with torch.no_grad():
        for p, shift in zip(model.parameters(), shifts):
            p.add_(shift)
    optimizer.zero_grad()
    F.cross_entropy(model(x), y).backward()
    with torch.no_grad():
        for p, shift in zip(model.parameters(), shifts):
            p.sub_(shift)
    optimizer.step()
