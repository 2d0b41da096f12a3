# reported again and again: the target network of Q-learning runs with gradients, so the loss also pulls at the target | W08 warning
import copy

import torch
from torch import nn

torch.manual_seed(0)
online = nn.Sequential(nn.Linear(4, 32), nn.ReLU(), nn.Linear(32, 2))
target = copy.deepcopy(online)
optimizer = torch.optim.Adam(online.parameters(), 1e-3)
for step in range(60):
    state, action, reward = torch.randn(32, 4), torch.randint(2, (32, 1)), torch.randn(32, 1)
    following = 0.9 * state + 0.1 * torch.randn(32, 4)
    wanted = reward + 0.95 * target(following).amax(1, keepdim=True)
    loss = nn.functional.smooth_l1_loss(online(state).gather(1, action), wanted)
    optimizer.zero_grad()
    loss.backward()
    optimizer.step()
    if step % 20 == 0:
        target.load_state_dict(online.state_dict())
