# most rows of an embedding are never looked up, and do not move | nothing
import torch
import torch.nn.functional as F
from torch import nn

torch.manual_seed(0)
model = nn.Sequential(nn.Embedding(5000, 8), nn.Linear(8, 4))
optimizer = torch.optim.SGD(model.parameters(), lr=0.1)
for step in range(60):
    ids = torch.randint(20, (16,))
    optimizer.zero_grad()
    F.cross_entropy(model(ids), ids % 4).backward()
    optimizer.step()
