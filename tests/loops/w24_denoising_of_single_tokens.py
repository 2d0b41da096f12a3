# an autoencoder of tokens: each position sees only itself
import torch
import torch.nn.functional as F
from torch import nn

torch.manual_seed(0)
V = 17
net = nn.Sequential(nn.Embedding(V, 4), nn.Linear(4, V))
optimizer = torch.optim.Adam(net.parameters(), lr=5e-3)
for _ in range(14):
    ids = torch.randint(V, (6, 10))
    loss = F.cross_entropy(net(ids).flatten(0, 1), ids.flatten())
    optimizer.zero_grad()
    loss.backward()
    optimizer.step()
