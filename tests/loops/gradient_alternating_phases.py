# first the encoder is trained, then only the head, by requires_grad, with one optimizer; right: quiet: nothing above a note
import torch
from torch import nn
from torch.nn import functional as F

torch.manual_seed(0)
encoder, head = nn.Sequential(nn.Linear(8, 16), nn.ReLU()), nn.Linear(16, 2)
optimizer = torch.optim.Adam([*encoder.parameters(), *head.parameters()], 1e-2)
for step in range(80):
    encoder.requires_grad_(step < 40)
    x = torch.randn(16, 8)
    loss = F.cross_entropy(head(encoder(x)), (x[:, 0] > 0).long())
    optimizer.zero_grad()
    loss.backward()
    optimizer.step()
