# a perturbation is found by three backwards, and added to the inputs outside of the model | nothing
import torch
import torch.nn.functional as F
from torch import nn

torch.manual_seed(0)
model = nn.Sequential(nn.Linear(8, 16), nn.ReLU(), nn.Linear(16, 4))

optimizer = torch.optim.Adam(model.parameters(), lr=1e-2)


def attack(x, y):
    delta = torch.zeros_like(x, requires_grad=True)
    for _ in range(3):
        F.cross_entropy(model(x + delta), y).backward()
        delta.data.add_(0.05 * delta.grad.sign())
        delta.grad.zero_()
    return (x + delta).detach()


for step in range(20):
    x = torch.randn(6, 8)
    y = x[:, :4].argmax(1)
    x = attack(x, y)
    optimizer.zero_grad()
    F.cross_entropy(model(x), y).backward()
    optimizer.step()
