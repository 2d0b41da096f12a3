# a Q network with a target network that is copied every ten steps; all in one module and optimizer; right: quiet: nothing above a note
import torch
from torch import nn
from torch.nn import functional as F

torch.manual_seed(0)
import copy


class Agent(nn.Module):
    def __init__(self):
        super().__init__()
        self.q = nn.Sequential(nn.Linear(6, 16), nn.ReLU(), nn.Linear(16, 3))
        self.target = copy.deepcopy(self.q)


agent = Agent()
optimizer = torch.optim.Adam(agent.parameters(), 1e-3)
for step in range(60):
    now, then, action = torch.randn(16, 6), torch.randn(16, 6), torch.randint(3, (16, 1))
    with torch.no_grad():
        goal = torch.randn(16) + 0.9 * agent.target(then).amax(1)
    loss = F.smooth_l1_loss(agent.q(now).gather(1, action)[:, 0], goal)
    optimizer.zero_grad()
    loss.backward()
    optimizer.step()
    if step % 10 == 9:
        agent.target.load_state_dict(agent.q.state_dict())
