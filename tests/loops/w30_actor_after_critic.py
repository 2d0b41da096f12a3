# healthy: soft actor-critic clears the critic's gradients before its own loss
import torch
import torch.nn.functional as F
from torch import nn


torch.manual_seed(5)
actor, critic = nn.Linear(4, 2), nn.Sequential(nn.Linear(6, 16), nn.ReLU(), nn.Linear(16, 1))
oa, oc = torch.optim.Adam(actor.parameters(), lr=1e-3), torch.optim.Adam(critic.parameters(), lr=1e-3)
for _ in range(25):
    s, a, r = torch.randn(32, 4), torch.randn(32, 2), torch.randn(32, 1)
    loss = F.mse_loss(critic(torch.cat([s, a], 1)), r)
    oc.zero_grad()
    loss.backward()
    oc.step()
    loss = -critic(torch.cat([s, actor(s)], 1)).mean()
    oa.zero_grad()
    loss.backward()
    oa.step()
