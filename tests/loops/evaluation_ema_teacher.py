# a mean teacher in evaluation mode sees the batches of the student; right: quiet: nothing above a note
import torch
from torch import nn
from torch.nn import functional as F

torch.manual_seed(0)
import copy

student = nn.Sequential(nn.Linear(10, 24), nn.Dropout(0.2), nn.ReLU(), nn.Linear(24, 4))
teacher = copy.deepcopy(student).eval().requires_grad_(False)
optimizer = torch.optim.AdamW(student.parameters(), 1e-2)
X = torch.randn(128, 10)
for epoch in range(4):
    for x in X.split(16):
        with torch.no_grad():
            wanted = teacher(x)
        loss = F.mse_loss(student(x + 0.01 * torch.randn_like(x)), wanted) + F.cross_entropy(student(x), (x[:, 0] > 0).long())
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
        with torch.no_grad():
            for slow, fast in zip(teacher.parameters(), student.parameters()):
                slow.lerp_(fast, 0.05)
