# healthy: an average is written into the tensors of its state, which is then loaded
import copy
import torch
import torch.nn.functional as F
from torch import nn


torch.manual_seed(3)
model = nn.Sequential(nn.Linear(6, 12), nn.ReLU(), nn.Linear(12, 3))
average = copy.deepcopy(model)
optimizer = torch.optim.AdamW(model.parameters(), lr=1e-2)
held_out = torch.randn(32, 6)
for step in range(24):
    x = torch.randn(16, 6)
    optimizer.zero_grad()
    F.cross_entropy(model(x), x[:, :3].argmax(1)).backward()
    optimizer.step()
    new, state = model.state_dict(), average.state_dict()
    for name in state:
        state[name].mul_(0.9).add_(new[name], alpha=0.1)
    average.load_state_dict(state)
    if step % 8 == 7:
        with torch.no_grad():
            print(F.cross_entropy(average(held_out), held_out[:, :3].argmax(1)).item())
