# healthy: a view of the state is kept for the whole run, and weights are written into it before each load
import copy
import torch
import torch.nn.functional as F
from torch import nn


torch.manual_seed(4)
model = nn.Sequential(nn.Linear(6, 12), nn.ReLU(), nn.Linear(12, 3))
optimizer = torch.optim.SGD(model.parameters(), lr=1e-2)
state = model.state_dict()
for step in range(20):
    x = torch.randn(16, 6)
    optimizer.zero_grad()
    F.cross_entropy(model(x), x[:, :3].argmax(1)).backward()
    optimizer.step()
    state["2.weight"].clamp_(-0.5, 0.5)
    model.load_state_dict(state)
