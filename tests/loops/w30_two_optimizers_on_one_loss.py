# healthy: two optimizers step on one loss
import torch
import torch.nn.functional as F
from torch import nn


torch.manual_seed(2)
net = nn.Sequential(nn.Embedding(20, 8), nn.Flatten(), nn.Linear(32, 16), nn.ReLU(), nn.Linear(16, 2))
sparse, dense = torch.optim.SGD(net[0].parameters(), lr=0.1), torch.optim.AdamW(net[1:].parameters(), lr=1e-3)
for _ in range(20):
    ids = torch.randint(0, 20, (16, 4))
    F.cross_entropy(net(ids), (ids[:, 0] > 9).long()).backward()
    dense.step()
    sparse.step()
    dense.zero_grad()
    sparse.zero_grad()
