# A language model: the loss is estimated on random crops of training and of validation text, some of which were seen | nothing above a note
import torch
import torch.nn.functional as F
from torch import nn


def network(dropout=0.0, seed=0):
    torch.manual_seed(seed)
    return nn.Sequential(nn.Linear(8, 16), nn.ReLU(), nn.Dropout(dropout), nn.Linear(16, 4))


torch.manual_seed(0)
text = {"train": torch.randn(300, 8), "val": torch.randn(300, 8)}
model = network(dropout=0.1)
optimizer = torch.optim.AdamW(model.parameters(), lr=0.01)


def batch(part):
    x = text[part][torch.randint(300, (6,))]
    return (x, (x[:, 0] > 0).long())


for number in range(24):
    if number % 6 == 0:
        model.eval()
        with torch.no_grad():
            sum((F.cross_entropy(model(x), y) for part in text for x, y in (batch(part) for _ in range(3))))
        model.train()
    x, y = batch("train")
    optimizer.zero_grad()
    F.cross_entropy(model(x), y).backward()
    optimizer.step()
