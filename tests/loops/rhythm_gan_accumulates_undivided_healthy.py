# a critic and a generator, each accumulates three batches before its step, and divides by three
import torch
import torch.nn.functional as F

torch.manual_seed(0)
generator = torch.nn.Sequential(torch.nn.Linear(4, 16), torch.nn.ReLU(), torch.nn.Linear(16, 6))
critic = torch.nn.Sequential(torch.nn.Linear(6, 16), torch.nn.ReLU(), torch.nn.Linear(16, 1))
opt_g = torch.optim.Adam(generator.parameters(), lr=1e-3)
opt_c = torch.optim.Adam(critic.parameters(), lr=1e-3)
for _ in range(30):
    opt_c.zero_grad()
    for _ in range(3):
        real, made = torch.randn(16, 6) + 2, generator(torch.randn(16, 4)).detach()
        loss_c = (F.softplus(critic(made)) + F.softplus(-critic(real))).mean() / 3
        loss_c.backward()
    opt_c.step()
    opt_g.zero_grad()
    for _ in range(3):
        loss_g = F.softplus(-critic(generator(torch.randn(16, 4)))).mean() / 3
        loss_g.backward()
    opt_g.step()
