# the losses of both splits are estimated on a few batches each, in a loop over names; right: quiet: nothing above a note
import torch
from torch import nn
from torch.nn import functional as F

torch.manual_seed(0)
data = {"train": torch.randint(0, 50, (64, 24)), "val": torch.randint(0, 50, (16, 24))}
model = nn.Sequential(nn.Embedding(50, 16), nn.Linear(16, 50))
optimizer = torch.optim.AdamW(model.parameters(), 1e-2)


def estimate():
    out = {}
    model.eval()
    with torch.no_grad():
        for split, ids in data.items():
            losses = [F.cross_entropy(model(b[:, :-1]).flatten(0, 1), b[:, 1:].flatten()) for b in ids.split(4)[:4]]
            out[split] = torch.stack(losses).mean().item()
    model.train()
    return out


for step in range(40):
    if step % 10 == 9:
        print(estimate())
    b = data["train"][torch.randint(0, 64, (8,))]
    loss = F.cross_entropy(model(b[:, :-1]).flatten(0, 1), b[:, 1:].flatten())
    optimizer.zero_grad()
    loss.backward()
    optimizer.step()
