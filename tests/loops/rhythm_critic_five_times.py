# a critic that steps five times for each step of its generator, each step on a batch of its own
import torch

torch.manual_seed(0)
generator = torch.nn.Sequential(torch.nn.Linear(4, 16), torch.nn.ReLU(), torch.nn.Linear(16, 6))
critic = torch.nn.Sequential(torch.nn.Linear(6, 16), torch.nn.ReLU(), torch.nn.Linear(16, 1))
opt_g = torch.optim.RMSprop(generator.parameters(), lr=1e-3)
opt_c = torch.optim.RMSprop(critic.parameters(), lr=1e-3)
for number in range(20):
    for _ in range(5):
        real = torch.randn(16, 6) + 2
        with torch.no_grad():
            made = generator(torch.randn(16, 4))
        opt_c.zero_grad()
        (critic(made).mean() - critic(real).mean()).backward()
        opt_c.step()
    opt_g.zero_grad()
    (-critic(generator(torch.randn(16, 4))).mean()).backward()
    opt_g.step()
