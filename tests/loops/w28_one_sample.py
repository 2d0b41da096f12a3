# one sample without a batch: log_softmax over dim 0 of [C]
import torch
import torch.nn.functional as F
from torch import nn

torch.manual_seed(0)
model = nn.Linear(8, 4)
optimizer = torch.optim.SGD(model.parameters(), lr=1e-2)
for _ in range(16):
    x = torch.randn(8)
    loss = F.nll_loss(F.log_softmax(model(x), dim=0), x[:4].argmax())
    optimizer.zero_grad()
    loss.backward()
    optimizer.step()
