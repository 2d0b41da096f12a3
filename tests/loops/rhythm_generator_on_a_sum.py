# a critic steps at every batch, its generator at every fifth, on the sum of what the five batches say
import torch
import torch.nn.functional as F

torch.manual_seed(0)
generator = torch.nn.Sequential(torch.nn.Linear(4, 16), torch.nn.ReLU(), torch.nn.Linear(16, 6))
critic = torch.nn.Sequential(torch.nn.Linear(6, 16), torch.nn.ReLU(), torch.nn.Linear(16, 1))
opt_g = torch.optim.RMSprop(generator.parameters(), lr=1e-3)
opt_c = torch.optim.RMSprop(critic.parameters(), lr=1e-3)
for number in range(1, 101):
    real, made = torch.randn(16, 6) + 2, generator(torch.randn(16, 4))
    opt_c.zero_grad()
    (F.softplus(critic(made.detach())) + F.softplus(-critic(real))).mean().backward()
    opt_c.step()
    loss_g = F.softplus(-critic(made)).mean()
    loss_g.backward()
    if number % 5 == 0:
        opt_g.step()
        opt_g.zero_grad()
