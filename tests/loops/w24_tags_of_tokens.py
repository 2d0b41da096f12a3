# a bidirectional tagger: the tag of each token depends on its neighbors
import torch
import torch.nn.functional as F
from torch import nn

torch.manual_seed(0)
V, T = 17, 10
embed, lstm, out = nn.Embedding(V, 12), nn.LSTM(12, 16, batch_first=True, bidirectional=True), nn.Linear(32, V)
net = nn.ModuleList([embed, lstm, out])
optimizer = torch.optim.Adam(net.parameters(), lr=5e-3)
for _ in range(14):
    ids = torch.randint(V, (6, T))
    tags = (ids + ids.roll(-1, 1)) % V
    loss = F.cross_entropy(out(lstm(embed(ids))[0]).flatten(0, 1), tags.flatten())
    optimizer.zero_grad()
    loss.backward()
    optimizer.step()
