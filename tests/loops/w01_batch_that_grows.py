# one micro-batch per step at first, four later, each window divided by its own length | nothing
import torch
import torch.nn.functional as F
from torch import nn

torch.manual_seed(0)
model = nn.Sequential(nn.Linear(8, 16), nn.ReLU(), nn.Linear(16, 4))

optimizer = torch.optim.SGD(model.parameters(), lr=0.05)
for step in range(30):
    length = 1 if step < 20 else 4
    for _ in range(length):
        x = torch.randn(6, 8)
        (F.cross_entropy(model(x), x[:, :4].argmax(1)) / length).backward()
    optimizer.step()
    optimizer.zero_grad(set_to_none=True)
