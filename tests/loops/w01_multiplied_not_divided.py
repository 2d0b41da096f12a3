# the loss is multiplied by the accumulation count, as if something had divided it: n times n | fault
import torch
import torch.nn.functional as F
from torch import nn

torch.manual_seed(0)
model = nn.Sequential(nn.Linear(8, 16), nn.ReLU(), nn.Linear(16, 4))

optimizer = torch.optim.Adam(model.parameters(), lr=1e-2)
for number in range(1, 49):
    x = torch.randn(6, 8)
    loss = F.cross_entropy(model(x), x[:, :4].argmax(1))
    (loss * 4).backward()
    if number % 4 == 0:
        optimizer.step()
        optimizer.zero_grad()
