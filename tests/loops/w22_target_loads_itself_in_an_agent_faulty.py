# a method loads a target network's own state | W22 fault
import copy
import torch
import torch.nn.functional as F
from torch import nn


class Agent:
    def __init__(self):
        self.net, self.target = nn.Linear(4, 2), nn.Linear(4, 2)
        self.target.load_state_dict(self.net.state_dict())
        self.optimizer = torch.optim.RMSprop(self.net.parameters(), lr=1e-3, foreach=False)
    def learn(self):
        s, r = torch.randn(16, 4), torch.randn(16)
        with torch.no_grad():
            goal = r + 0.9 * self.target(s).max(1)[0]
        loss = F.mse_loss(self.net(s).max(1)[0], goal)
        self.optimizer.zero_grad(set_to_none=False)
        loss.backward()
        self.optimizer.step()
    def sync(self):
        state = self.target.state_dict()
        self.target.load_state_dict(state)

torch.manual_seed(12)
agent = Agent()
for step in range(30):
    agent.learn()
    if step % 10 == 0:
        agent.sync()
