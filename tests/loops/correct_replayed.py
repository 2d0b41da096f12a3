# Double Q-learning: actions and targets are taken without a gradient from what is trained on, before and after | nothing above a note
import itertools

import torch
import torch.nn.functional as F
from torch import nn


def network(dropout=0.0, seed=0):
    torch.manual_seed(seed)
    return nn.Sequential(nn.Linear(8, 16), nn.ReLU(), nn.Dropout(dropout), nn.Linear(16, 4))


torch.manual_seed(0)
model, target = (network(), network())
optimizer = torch.optim.Adam(model.parameters(), lr=0.01)
states = [torch.randn(1, 8) for _ in range(41)]
memory = [(torch.randn(1, 8), torch.tensor([number % 4]), torch.randn(1, 8)) for number in range(40)]
for state, after in itertools.pairwise(states):
    with torch.no_grad():
        action = model(state).argmax(1)
    memory.append((state, action, after))
    chosen = [memory[number] for number in torch.randint(len(memory), (6,)).tolist()]
    x, taken, later = (torch.cat(column) for column in zip(*chosen, strict=True))
    with torch.no_grad():
        best = model(later).argmax(1, keepdim=True)
        value = target(later).gather(1, best).squeeze(1)
    loss = F.smooth_l1_loss(model(x).gather(1, taken[:, None]).squeeze(1), 0.9 * value)
    optimizer.zero_grad()
    loss.backward()
    optimizer.step()
