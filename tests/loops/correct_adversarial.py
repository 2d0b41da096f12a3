# A GAN: two optimizers, a critic that adds two losses, a generator that runs without gradient in between | nothing above a note
import torch
from torch import nn


def batches(count, size=6, seed=1):
    generator = torch.Generator().manual_seed(seed)
    return [
        (torch.randn(size, 8, generator=generator), torch.randint(4, (size,), generator=generator))
        for _ in range(count)
    ]


torch.manual_seed(0)
generator = nn.Sequential(nn.Linear(4, 16), nn.BatchNorm1d(16), nn.ReLU(), nn.Linear(16, 8))
critic = nn.Sequential(nn.Linear(8, 16), nn.LeakyReLU(0.2), nn.Dropout(0.1), nn.Linear(16, 1))
of_generator = torch.optim.Adam(generator.parameters(), lr=0.001, betas=(0.5, 0.9))
of_critic = torch.optim.Adam(critic.parameters(), lr=0.001, betas=(0.5, 0.9))
criterion = nn.BCEWithLogitsLoss()
for x, _ in batches(14):
    critic.zero_grad()
    criterion(critic(x), torch.ones(len(x), 1)).backward()
    fake = generator(torch.randn(len(x), 4))
    criterion(critic(fake.detach()), torch.zeros(len(x), 1)).backward()
    of_critic.step()
    generator.zero_grad()
    criterion(critic(fake), torch.ones(len(x), 1)).backward()
    of_generator.step()
