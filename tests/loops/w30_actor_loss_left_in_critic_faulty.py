# the actor's loss leaves gradients in the critic, which clears its own after its step | W30 warning
import torch
import torch.nn.functional as F
from torch import nn


class Agent:
    def __init__(self):
        self.actor = nn.Sequential(nn.Linear(4, 16), nn.Tanh(), nn.Linear(16, 2))
        self.critic = nn.Sequential(nn.Linear(6, 16), nn.ReLU(), nn.Linear(16, 1))
        self.actor_optimizer = torch.optim.AdamW(self.actor.parameters(), lr=1e-3)
        self.critic_optimizer = torch.optim.AdamW(self.critic.parameters(), lr=1e-3)
    def q(self, s, a):
        return self.critic(torch.cat([s, a], 1))
    def update(self, loss, optimizer):
        loss.backward()
        optimizer.step()
        optimizer.zero_grad()

torch.manual_seed(7)
agent = Agent()
for _ in range(25):
    s, a, r = torch.randn(32, 4), torch.randn(32, 2), torch.randn(32, 1)
    agent.update(F.mse_loss(agent.q(s, a), r), agent.critic_optimizer)
    agent.update(-agent.q(s, agent.actor(s)).mean(), agent.actor_optimizer)
