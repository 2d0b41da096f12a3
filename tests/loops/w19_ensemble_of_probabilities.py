# an ensemble averages probabilities and takes their logarithm as logits
import torch
import torch.nn.functional as F
from torch import nn

torch.manual_seed(0)
members = nn.ModuleList(nn.Linear(8, 4) for _ in range(3))
optimizer = torch.optim.Adam(members.parameters(), lr=1e-2)
for _ in range(16):
    x = torch.randn(12, 8)
    mean = torch.stack([member(x).softmax(1) for member in members]).mean(0)
    loss = F.cross_entropy(mean.clamp_min(1e-6).log(), x[:, :4].argmax(1))
    optimizer.zero_grad()
    loss.backward()
    optimizer.step()
