# healthy: a target network gets the online network's state, which is the online network's own
import copy
import torch
import torch.nn.functional as F
from torch import nn


torch.manual_seed(5)
online = nn.Sequential(nn.Linear(4, 16), nn.ReLU(), nn.Linear(16, 2))
target = copy.deepcopy(online)
optimizer = torch.optim.Adam(online.parameters(), lr=1e-3)
kept = online.state_dict()
for step in range(40):
    s, r = torch.randn(16, 4), torch.randn(16)
    with torch.no_grad():
        goal = r + 0.9 * target(s + 0.1).max(1).values
    optimizer.zero_grad()
    F.smooth_l1_loss(online(s).max(1).values, goal).backward()
    optimizer.step()
    if step % 5 == 4:
        target.load_state_dict(kept)
