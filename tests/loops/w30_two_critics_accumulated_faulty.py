# two critics of one generator clear their gradients after their steps, accumulating | W30 warning
import torch
import torch.nn.functional as F
from torch import nn


torch.manual_seed(9)
generator = nn.Sequential(nn.Linear(4, 16), nn.SiLU(), nn.Linear(16, 2))
critics = nn.ModuleList([nn.Linear(2, 1), nn.Sequential(nn.Linear(2, 8), nn.ReLU(), nn.Linear(8, 1))])
generator_optimizer = torch.optim.NAdam(generator.parameters(), lr=1e-3)
critic_optimizer = torch.optim.NAdam(critics.parameters(), lr=1e-3)
for _ in range(12):
    for _ in range(2):
        fake = generator(torch.randn(16, 4))
        (sum(F.softplus(-critic(fake)).mean() for critic in critics) / 2).backward()
    generator_optimizer.step()
    generator_optimizer.zero_grad()
    for _ in range(2):
        with torch.no_grad():
            fake = generator(torch.randn(16, 4))
        real = torch.randn(16, 2) + 2
        losses = [F.softplus(critic(fake)).mean() + F.softplus(-critic(real)).mean() for critic in critics]
        (sum(losses) / 2).backward()
    critic_optimizer.step()
    critic_optimizer.zero_grad()
