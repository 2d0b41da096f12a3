# healthy: only a copy is evaluated, which gets the trained parameters before
import copy
import torch
import torch.nn.functional as F
from torch import nn

torch.manual_seed(4)
net = nn.Sequential(nn.Linear(10, 16), nn.ReLU(), nn.Linear(16, 2))
optimizer = torch.optim.Adam(net.parameters(), lr=1e-2)
held_out = torch.randn(48, 10)
goal = (held_out[:, 0] > 0).long()

evaluated = copy.deepcopy(net).eval()
for epoch in range(4):
    for _ in range(10):
        x = torch.randn(16, 10)
        optimizer.zero_grad()
        F.cross_entropy(net(x), (x[:, 0] > 0).long()).backward()
        optimizer.step()

    evaluated.load_state_dict(net.state_dict())
    with torch.inference_mode():
        print(F.cross_entropy(evaluated(held_out), goal).item())
