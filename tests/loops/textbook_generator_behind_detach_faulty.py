# A GAN whose generator loss uses the samples that were detached for the critic | W07 fault
import torch
from torch import nn


def batches(count, size=6, seed=1):
    generator = torch.Generator().manual_seed(seed)
    return [
        (torch.randn(size, 8, generator=generator), torch.randint(4, (size,), generator=generator))
        for _ in range(count)
    ]


torch.manual_seed(0)
generator, critic = (nn.Linear(4, 8), nn.Linear(8, 1))
of_generator, of_critic = (
    torch.optim.AdamW(generator.parameters(), lr=0.01),
    torch.optim.AdamW(critic.parameters(), lr=0.01),
)
for x, _ in batches(14):
    fake = generator(torch.randn(len(x), 4)).detach()
    of_critic.zero_grad()
    (critic(fake).mean() - critic(x).mean()).backward()
    of_critic.step()
    of_generator.zero_grad()
    (-critic(fake).mean()).backward()
    of_generator.step()
