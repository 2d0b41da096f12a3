# a guard against bad gradients that is never passed; right: W11 fault
import torch
from torch import nn
from torch.nn import functional as F

torch.manual_seed(0)
model = nn.Sequential(nn.Linear(6, 12), nn.GELU(), nn.Linear(12, 2))
optimizer = torch.optim.SGD(model.parameters(), 0.1)
for _ in range(30):
    x = torch.randn(8, 6)
    loss = F.cross_entropy(model(x), (x[:, 0] > 0).long())
    loss.backward()
    norm = nn.utils.clip_grad_norm_(model.parameters(), 1.0)
    if norm < 0:  # should be: if norm.isfinite()
        optimizer.step()
    model.zero_grad()
