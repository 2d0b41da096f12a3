# TD3: the critic steps at every batch, the policy at every second, and target networks follow by averages
import copy

import torch
import torch.nn.functional as F

torch.manual_seed(0)
policy, critic = torch.nn.Linear(4, 2), torch.nn.Linear(6, 1)
policy_target, critic_target = copy.deepcopy(policy), copy.deepcopy(critic)
opt_p = torch.optim.Adam(policy.parameters(), lr=1e-3)
opt_c = torch.optim.Adam(critic.parameters(), lr=1e-3)
for number in range(1, 61):
    state, after, action = torch.randn(16, 4), torch.randn(16, 4), torch.randn(16, 2)
    with torch.no_grad():
        wanted = state.sum(1, keepdim=True) + 0.9 * critic_target(torch.cat([after, policy_target(after)], 1))
    loss = F.mse_loss(critic(torch.cat([state, action], 1)), wanted)
    opt_c.zero_grad()
    loss.backward()
    opt_c.step()
    if number % 2 == 0:
        loss_p = -critic(torch.cat([state, policy(state)], 1)).mean()
        opt_p.zero_grad()
        loss_p.backward()
        opt_p.step()
        with torch.no_grad():
            for net, target in ((policy, policy_target), (critic, critic_target)):
                for own, other in zip(net.parameters(), target.parameters(), strict=True):
                    other.lerp_(own, 0.05)
