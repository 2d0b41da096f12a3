# healthy: the best state is cloned, in the middle of the run it is loaded
import copy
import torch
import torch.nn.functional as F
from torch import nn


torch.manual_seed(1)
model = nn.Sequential(nn.Linear(6, 12), nn.ReLU(), nn.Linear(12, 3))
optimizer = torch.optim.SGD(model.parameters(), lr=0.1)
held_out = torch.randn(40, 6)
best, least = None, float("inf")
for epoch in range(5):
    for _ in range(8):
        x = torch.randn(16, 6)
        optimizer.zero_grad()
        F.cross_entropy(model(x), x[:, :3].argmax(1)).backward()
        optimizer.step()
    with torch.no_grad():
        loss = F.cross_entropy(model(held_out), held_out[:, :3].argmax(1)).item()
    if loss < least:
        best, least = {name: tensor.detach().cpu().clone() for name, tensor in model.state_dict().items()}, loss
model.load_state_dict(best)
