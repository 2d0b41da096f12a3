# classes come first: log_softmax over dim 0 of [C, N], then the transpose into nll_loss
import torch
import torch.nn.functional as F
from torch import nn

torch.manual_seed(0)
weight = nn.Parameter(torch.randn(4, 8) * 0.1)
optimizer = torch.optim.Adam([weight], lr=1e-2)
for _ in range(16):
    x = torch.randn(20, 8)
    log_p = F.log_softmax(weight @ x.T, dim=0)
    loss = F.nll_loss(log_p.t(), x[:, :4].argmax(1))
    optimizer.zero_grad()
    loss.backward()
    optimizer.step()
