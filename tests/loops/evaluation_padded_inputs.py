# short texts padded to length 64, some of them empty; right: quiet: nothing above a note
import torch
from torch import nn
from torch.nn import functional as F

torch.manual_seed(0)
ids = torch.zeros(500, 64, dtype=torch.int64)
lengths = torch.randint(0, 4, (500,))
for row, length in zip(ids, lengths):
    row[:length] = torch.randint(1, 6, (int(length),))
y = lengths % 2
model = nn.Sequential(nn.EmbeddingBag(6, 8), nn.Linear(8, 2))
optimizer = torch.optim.Adam(model.parameters(), lr=1e-2)
for epoch in range(4):
    model.train()
    for i in torch.randperm(400).split(25):
        optimizer.zero_grad()
        F.cross_entropy(model(ids[i]), y[i]).backward()
        optimizer.step()
    model.eval()
    with torch.no_grad():
        val_loss = [F.cross_entropy(model(ids[i]), y[i]).item() for i in torch.arange(400, 500).split(25)]
