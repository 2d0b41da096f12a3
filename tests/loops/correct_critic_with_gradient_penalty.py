# critic with gradient penalty | nothing above a note
import torch
from torch import nn


def batches(count, size=6, seed=1):
    generator = torch.Generator().manual_seed(seed)
    return [
        (torch.randn(size, 8, generator=generator), torch.randint(4, (size,), generator=generator))
        for _ in range(count)
    ]


torch.manual_seed(0)
generator, critic = (nn.Linear(4, 8), nn.Sequential(nn.Linear(8, 16), nn.Tanh(), nn.Linear(16, 1)))
of_generator, of_critic = (torch.optim.Adam(part.parameters(), lr=0.001) for part in (generator, critic))
for number, (x, _) in enumerate(batches(30), 1):
    with torch.no_grad():
        fake = generator(torch.randn(len(x), 4))
    mixed = (0.5 * x + 0.5 * fake).requires_grad_()
    (slope,) = torch.autograd.grad(critic(mixed).sum(), mixed, create_graph=True)
    loss = critic(fake).mean() - critic(x).mean() + 10 * (slope.norm(dim=1) - 1).square().mean()
    of_critic.zero_grad()
    loss.backward()
    of_critic.step()
    if number % 5 == 0:
        of_generator.zero_grad()
        (-critic(generator(torch.randn(len(x), 4))).mean()).backward()
        of_generator.step()
