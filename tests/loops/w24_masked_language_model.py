# masked language modeling with a bidirectional encoder, where some masked tokens stay as they are
import torch
import torch.nn.functional as F
from torch import nn

torch.manual_seed(0)
V, T = 17, 10
net = nn.Sequential(nn.Embedding(V, 16), nn.TransformerEncoderLayer(16, 2, 32, batch_first=True), nn.Linear(16, V))
optimizer = torch.optim.Adam(net.parameters(), lr=1e-3)
for _ in range(14):
    ids = torch.randint(1, V, (8, T))
    chosen = torch.rand(ids.shape) < 0.3
    shown = ids.masked_fill(chosen & (torch.rand(ids.shape) < 0.8), 0)
    loss = F.cross_entropy(net(shown).flatten(0, 1), ids.masked_fill(~chosen, -100).flatten())
    optimizer.zero_grad()
    loss.backward()
    optimizer.step()
