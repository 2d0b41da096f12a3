# A teacher in evaluation mode sees the training inputs; a perceptual loss runs through a frozen network | nothing above a note
import torch
import torch.nn.functional as F
from torch import nn


def network(dropout=0.0, seed=0):
    torch.manual_seed(seed)
    return nn.Sequential(nn.Linear(8, 16), nn.ReLU(), nn.Dropout(dropout), nn.Linear(16, 4))


def batches(count, size=6, seed=1):
    generator = torch.Generator().manual_seed(seed)
    return [
        (torch.randn(size, 8, generator=generator), torch.randint(4, (size,), generator=generator))
        for _ in range(count)
    ]


teacher, student, judge = (network(seed=3).eval(), network(), network(seed=4).eval().requires_grad_(False))
optimizer = torch.optim.AdamW(student.parameters(), lr=0.01)
for x, _ in batches(14):
    with torch.no_grad():
        wanted = teacher(x).softmax(1)
    out = student(x)
    loss = (
        F.kl_div(out.log_softmax(1), wanted, reduction="batchmean")
        + 0.1 * (judge(x + out.repeat(1, 2)) - judge(x)).square().mean()
    )
    optimizer.zero_grad()
    loss.backward()
    optimizer.step()
