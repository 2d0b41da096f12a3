# random crops of two parts of a text that overlap; right: W16 fault at the evaluation
import torch
from torch import nn
from torch.nn import functional as F

torch.manual_seed(0)
text = torch.randint(0, 30, (1500,))
data = {"train": text[:1300], "val": text[900:]}  # should begin at 1300
model = nn.Sequential(nn.Embedding(30, 24), nn.Linear(24, 30))
optimizer = torch.optim.AdamW(model.parameters(), 1e-3)


def batch(split):
    start = torch.randint(0, len(data[split]) - 17, (24,))
    ids = torch.stack([data[split][i : i + 17] for i in start])
    return ids[:, :-1], ids[:, 1:]


@torch.no_grad()
def validate():
    model.eval()
    losses = [F.cross_entropy(model(x).flatten(0, 1), y.flatten()) for x, y in (batch("val") for _ in range(5))]
    model.train()
    return torch.stack(losses).mean().item()


for step in range(90):
    x, y = batch("train")
    loss = F.cross_entropy(model(x).flatten(0, 1), y.flatten())
    optimizer.zero_grad()
    loss.backward()
    optimizer.step()
    if step % 30 == 29:
        print(step, loss.item(), validate())
