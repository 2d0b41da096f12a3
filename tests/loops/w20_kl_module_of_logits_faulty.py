# KLDivLoss gets logits of a student that starts with large weights
import torch
import torch.nn.functional as F
from torch import nn

torch.manual_seed(0)
teacher, student = nn.Linear(8, 4), nn.Linear(8, 4)
kl = nn.KLDivLoss(reduction="batchmean")
optimizer = torch.optim.AdamW(student.parameters(), lr=1e-3)
for _ in range(20):
    x = torch.randn(16, 8)
    goal = teacher(x).detach().softmax(dim=-1)
    loss = kl(student(x), goal)
    loss.backward()
    optimizer.step()
    optimizer.zero_grad()
