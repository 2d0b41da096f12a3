# a temperature is adapted at every tenth batch, on the sum of ten losses of its own; the policy steps at each
import torch

torch.manual_seed(0)
policy = torch.nn.Linear(4, 3)
log_alpha = torch.nn.Parameter(torch.zeros(1))
opt_policy = torch.optim.Adam(policy.parameters(), lr=1e-2)
opt_alpha = torch.optim.SGD([log_alpha], lr=1e-3)
for number in range(1, 101):
    state = torch.randn(16, 4)
    chosen = torch.distributions.Categorical(logits=policy(state))
    opt_policy.zero_grad()
    (-(chosen.probs * state[:, :3]).sum(1).mean() - log_alpha.exp().detach() * chosen.entropy().mean()).mean().backward()
    opt_policy.step()
    alpha_loss = (log_alpha * (chosen.entropy().detach() - 0.5)).mean()
    alpha_loss.backward()
    if number % 10 == 0:
        opt_alpha.step()
        opt_alpha.zero_grad()
