# attention maps [B, H, T, T] of a student, as probabilities, against a log target, beside a cross-entropy, under autocast
import torch
import torch.nn.functional as F
from torch import nn

torch.manual_seed(0)
from torch.nn.functional import kl_div as kl

teacher, student, head = nn.Linear(8, 8), nn.Linear(8, 8), nn.Linear(8, 3)
optimizer = torch.optim.Adam([*student.parameters(), *head.parameters()], lr=1e-2)


def attention(layer, x):
    q = layer(x).view(6, 5, 2, 4).transpose(1, 2)
    return (q @ q.transpose(-1, -2)).softmax(-1)


for _ in range(16):
    x = torch.randn(6, 5, 8)
    with torch.autocast("cpu", torch.bfloat16):
        with torch.no_grad():
            goal = attention(teacher, x).log()
        guess = attention(student, x)
        task = F.cross_entropy(head(student(x)).mean(1), x.sum(1)[:, :3].argmax(1))
        loss = task + 0.5 * kl(guess, goal, reduction="batchmean", log_target=True)
    optimizer.zero_grad()
    loss.backward()
    optimizer.step()
