# means over 5 to 25 tokens that padding leaves, averaged over four micro-batches | note
import torch
import torch.nn.functional as F
from torch import nn

torch.manual_seed(0)
model = nn.Sequential(nn.Embedding(12, 16), nn.Linear(16, 12))
optimizer = torch.optim.AdamW(model.parameters(), lr=1e-2)
for step in range(20):
    optimizer.zero_grad()
    for length in (5, 25, 9, 13):
        ids = torch.randint(12, (2, 26))
        targets = ids.roll(-1, 1).masked_fill(torch.arange(26) >= length, -100)
        loss = F.cross_entropy(model(ids).flatten(0, 1), targets.flatten(), ignore_index=-100)
        (loss / 4).backward()
    optimizer.step()
