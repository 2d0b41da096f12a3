# an auxiliary loss is detached, and added in place
import torch
import torch.nn.functional as F
from torch import nn

torch.manual_seed(0)
body, main, side = nn.Linear(8, 8), nn.Linear(8, 3), nn.Linear(8, 2)
optimizer = torch.optim.Adam([*body.parameters(), *main.parameters()], lr=1e-2)
for _ in range(16):
    x = torch.randn(12, 8)
    h = body(x).relu()
    aux = F.cross_entropy(side(h.detach()).detach(), (x[:, 0] > 0).long())
    total = F.cross_entropy(main(h), x[:, :3].argmax(1))
    total += aux
    optimizer.zero_grad()
    total.backward()
    optimizer.step()
