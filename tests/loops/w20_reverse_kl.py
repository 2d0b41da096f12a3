# the reverse divergence: the first argument is a fixed log-probability, the target trains
import torch
import torch.nn.functional as F
from torch import nn

torch.manual_seed(0)
teacher, student = nn.Linear(8, 4), nn.Linear(8, 4)
optimizer = torch.optim.Adam(student.parameters(), lr=1e-2)
for _ in range(16):
    x = torch.randn(12, 8)
    with torch.no_grad():
        goal = teacher(x).log_softmax(1)
    loss = F.kl_div(goal, student(x).log_softmax(1), log_target=True, reduction="batchmean")
    optimizer.zero_grad()
    loss.backward()
    optimizer.step()
