# a sigmoid gates the features, and a bounded logit is ten times a sigmoid less five
import torch
import torch.nn.functional as F
from torch import nn

torch.manual_seed(0)
gate, body, last = nn.Linear(8, 8), nn.Linear(8, 8), nn.Linear(8, 1)
optimizer = torch.optim.Adam([*gate.parameters(), *body.parameters(), *last.parameters()], lr=1e-2)
for _ in range(16):
    x = torch.randn(12, 8)
    logit = 10 * last(torch.sigmoid(gate(x)) * body(x)).sigmoid() - 5
    loss = F.binary_cross_entropy_with_logits(logit.squeeze(1), (x[:, 0] > 0).float())
    optimizer.zero_grad()
    loss.backward()
    optimizer.step()
