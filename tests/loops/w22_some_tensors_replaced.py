# healthy: one layer of the state is replaced in the middle of the run
import copy
import torch
import torch.nn.functional as F
from torch import nn


torch.manual_seed(2)
model = nn.Sequential(nn.Linear(6, 12), nn.ReLU(), nn.Linear(12, 3))
optimizer = torch.optim.AdamW(model.parameters(), lr=1e-2)
for step in range(24):
    if step == 12:
        state = model.state_dict()
        state.update({"2.weight": torch.zeros(3, 12), "2.bias": torch.zeros(3)})
        model.load_state_dict(state)
    x = torch.randn(16, 6)
    optimizer.zero_grad()
    F.cross_entropy(model(x), x[:, :3].argmax(1)).backward()
    optimizer.step()
