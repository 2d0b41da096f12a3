# A helper runs every backward, so both of a critic's come from one line | nothing above a note
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
of_generator, of_critic = (torch.optim.Adam(part.parameters(), lr=0.001) for part in (generator, critic))
criterion = nn.BCEWithLogitsLoss()


def step(optimizer, *losses):
    optimizer.zero_grad()
    for loss in losses:
        loss.backward()
    optimizer.step()


for x, _ in batches(14):
    fake = generator(torch.randn(len(x), 4))
    step(
        of_critic, criterion(critic(x), torch.ones(len(x), 1)), criterion(critic(fake.detach()), torch.zeros(len(x), 1))
    )
    step(of_generator, criterion(critic(fake), torch.ones(len(x), 1)))
