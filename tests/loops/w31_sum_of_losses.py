# losses are added by sum(), which starts at the number 0, and by a tensor that starts at 0
import torch
import torch.nn.functional as F
from torch import nn

torch.manual_seed(0)
model = nn.Linear(8, 4)
optimizer = torch.optim.Adam(model.parameters(), lr=1e-2)
for _ in range(16):
    x = torch.randn(12, 8)
    total = torch.zeros(())
    for part in x.chunk(2):
        total = total + F.mse_loss(model(part), part[:, :4])
    loss = sum([total, F.l1_loss(model(x), x[:, 4:])])
    optimizer.zero_grad()
    loss.backward()
    optimizer.step()
