# healthy: the names of a state are checked by loading it back, before any step
import copy
import torch
import torch.nn.functional as F
from torch import nn


torch.manual_seed(6)
model = nn.Sequential(nn.Linear(6, 12), nn.ReLU(), nn.Linear(12, 3))
model.load_state_dict(model.state_dict())
state = model.state_dict()
model.load_state_dict(state)
optimizer = torch.optim.RMSprop(model.parameters(), lr=1e-3)
for _ in range(20):
    x = torch.randn(16, 6)
    optimizer.zero_grad()
    F.cross_entropy(model(x), x[:, :3].argmax(1)).backward()
    optimizer.step()
