# the divergence by hand, between a student and a teacher that both train
import torch
import torch.nn.functional as F
from torch import nn

torch.manual_seed(0)
a, b = nn.Linear(8, 4), nn.Linear(8, 4)
optimizer = torch.optim.Adam([*a.parameters(), *b.parameters()], lr=1e-2)
for _ in range(16):
    x = torch.randn(12, 8)
    p, log_q = a(x).softmax(1), b(x).log_softmax(1)
    mutual = (p.detach() * (p.detach().log() - log_q)).sum(1).mean() + (p * (p.log() - log_q.detach())).sum(1).mean()
    loss = mutual + F.cross_entropy(a(x), x[:, :4].argmax(1))
    optimizer.zero_grad()
    loss.backward()
    optimizer.step()
