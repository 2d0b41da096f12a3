# the actor's update clips the critic | W26 warning
import torch
from torch import nn

torch.manual_seed(18)
actor, critic = nn.Linear(4, 2), nn.Sequential(nn.Linear(6, 16), nn.ReLU(), nn.Linear(16, 1))
actor_optimizer = torch.optim.Adam(actor.parameters(), lr=1e-3)
critic_optimizer = torch.optim.Adam(critic.parameters(), lr=1e-3)
for _ in range(25):
    s, a, r = torch.randn(32, 4), torch.randn(32, 2), torch.randn(32, 1)
    critic_optimizer.zero_grad()
    (critic(torch.cat([s, a], 1)) - r).square().mean().backward()
    critic_optimizer.step()
    actor_optimizer.zero_grad()
    (-critic(torch.cat([s, actor(s)], 1)).mean()).backward()
    nn.utils.clip_grad_norm_(critic.parameters(), 1.0)
    actor_optimizer.step()
