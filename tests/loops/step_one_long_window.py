# a smoke test ends within its first window of 64 micro-batches; right: quiet: nothing above a note
import torch
from torch import nn
from torch.nn import functional as F

torch.manual_seed(0)
model = nn.Linear(6, 2)
optimizer = torch.optim.SGD(model.parameters(), 0.1)
for number in range(1, 21):
    x = torch.randn(8, 6)
    (F.cross_entropy(model(x), (x[:, 0] > 0).long()) / 64).backward()
    if number % 64 == 0:
        optimizer.step()
        optimizer.zero_grad()
