# a part with an optimizer of its own that is used and stepped at every fifth step; right: quiet: nothing above a note
import torch
from torch import nn
from torch.nn import functional as F

torch.manual_seed(0)
policy, value = nn.Linear(6, 3), nn.Sequential(nn.Linear(6, 8), nn.Tanh(), nn.Linear(8, 1))
of_policy, of_value = torch.optim.Adam(policy.parameters(), 1e-3), torch.optim.Adam(value.parameters(), 1e-3)
for step in range(60):
    x, reward = torch.randn(16, 6), torch.randn(16)
    choice = torch.distributions.Categorical(logits=policy(x))
    action = choice.sample()
    baseline = value(x)[:, 0]
    of_policy.zero_grad()
    (-(choice.log_prob(action) * (reward - baseline.detach())).mean()).backward()
    of_policy.step()
    if step % 5 == 0:
        of_value.zero_grad()
        F.mse_loss(baseline, reward).backward()
        of_value.step()
