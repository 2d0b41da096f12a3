# a hand-written step decay whose factor becomes 0 | fault
import torch
import torch.nn.functional as F
from torch import nn

torch.manual_seed(0)
model = nn.Sequential(nn.Linear(8, 16), nn.ReLU(), nn.Linear(16, 4))

optimizer = torch.optim.SGD(model.parameters(), lr=0.1)
for step in range(40):
    for group in optimizer.param_groups:
        group["lr"] = 0.1 * (1 if step < 15 else 1 // 10)
    x = torch.randn(6, 8)
    optimizer.zero_grad()
    F.cross_entropy(model(x), x[:, :4].argmax(1)).backward()
    optimizer.step()
