# gradients of the inputs are taken by a backward through the model, whose own gradients are then cleared | nothing
import torch
import torch.nn.functional as F
from torch import nn

torch.manual_seed(0)
model = nn.Sequential(nn.Linear(8, 16), nn.ReLU(), nn.Linear(16, 4))

optimizer = torch.optim.SGD(model.parameters(), lr=0.05)
for step in range(30):
    x = torch.randn(6, 8)
    y = x[:, :4].argmax(1)
    attacked = x.clone().requires_grad_()
    F.cross_entropy(model(attacked), y).backward()
    x = x + 0.1 * attacked.grad.sign()
    optimizer.zero_grad()
    F.cross_entropy(model(x), y).backward()
    optimizer.step()
