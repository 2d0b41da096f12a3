# a model of constants: its input is always the same; right: quiet: nothing above a note
import torch
from torch import nn
from torch.nn import functional as F

torch.manual_seed(0)
model = nn.Linear(5, 3)
optimizer = torch.optim.SGD(model.parameters(), lr=0.1)
ones = torch.ones(8, 5)
for epoch in range(4):
    for _ in range(6):
        optimizer.zero_grad()
        F.mse_loss(model(ones), torch.randn(8, 3) + 2).backward()
        optimizer.step()
    with torch.no_grad():
        val_loss = sum(F.mse_loss(model(ones), torch.randn(8, 3) + 2).item() for _ in range(4))
