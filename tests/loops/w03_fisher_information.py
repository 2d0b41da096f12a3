# after each task, squared gradients are averaged over its samples, and no step uses them | nothing
import torch
import torch.nn.functional as F
from torch import nn

torch.manual_seed(0)
model = nn.Sequential(nn.Linear(8, 16), nn.ReLU(), nn.Linear(16, 4))

optimizer = torch.optim.SGD(model.parameters(), lr=0.05)
for task in range(2):
    data = [torch.randn(6, 8) + task for _ in range(25)]
    for x in data:
        optimizer.zero_grad()
        F.cross_entropy(model(x), x[:, :4].argmax(1)).backward()
        optimizer.step()
    fisher = [torch.zeros_like(p) for p in model.parameters()]
    for x in data:
        model.zero_grad()
        F.cross_entropy(model(x), x[:, :4].argmax(1)).backward()
        for mean, p in zip(fisher, model.parameters()):
            mean += p.grad.square() / len(data)
    model.zero_grad()
