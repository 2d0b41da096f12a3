# the generator's backward also reaches the critic, whose gradients are cleared before its own backward | nothing
import torch
import torch.nn.functional as F
from torch import nn

torch.manual_seed(0)
generator, critic = nn.Linear(4, 8), nn.Sequential(nn.Linear(8, 16), nn.LeakyReLU(0.2), nn.Linear(16, 1))
of_generator = torch.optim.Adam(generator.parameters(), lr=1e-3)
of_critic = torch.optim.Adam(critic.parameters(), lr=1e-3)
for step in range(30):
    real, fake = torch.randn(6, 8), generator(torch.randn(6, 4))
    of_critic.zero_grad()
    (F.softplus(critic(fake.detach())).mean() + F.softplus(-critic(real)).mean()).backward()
    of_critic.step()
    of_generator.zero_grad()
    F.softplus(-critic(fake)).mean().backward()
    of_generator.step()
