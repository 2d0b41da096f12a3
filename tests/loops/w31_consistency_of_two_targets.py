# the consistency term compares two outputs that were both made under no_grad
import torch
import torch.nn.functional as F
from torch import nn

torch.manual_seed(0)
student, teacher = nn.Linear(8, 4), nn.Linear(8, 4)
optimizer = torch.optim.SGD(student.parameters(), lr=1e-2)
for number in range(1, 41):
    x = torch.randn(12, 8)
    with torch.no_grad():
        goal, guess = teacher(x), student(x + 0.1 * torch.randn_like(x))
    supervised = F.cross_entropy(student(x), x[:, :4].argmax(1))
    consistency = F.mse_loss(guess, goal)
    ((supervised + consistency) / 2).backward()
    if number % 2 == 0:
        optimizer.step()
        optimizer.zero_grad()
