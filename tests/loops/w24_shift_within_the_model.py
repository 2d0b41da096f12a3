# the targets are the input, and the model shifts it inside: position t sees the tokens before t
import torch
import torch.nn.functional as F
from torch import nn

torch.manual_seed(0)
V, T = 17, 10


class Model(nn.Module):
    def __init__(self):
        super().__init__()
        self.embed, self.gru, self.out = nn.Embedding(V, 12), nn.GRU(12, 16, batch_first=True), nn.Linear(16, V)

    def forward(self, ids):
        h = F.pad(self.embed(ids), (0, 0, 1, 0))[:, :-1]
        return self.out(self.gru(h)[0])


net = Model()
optimizer = torch.optim.Adam(net.parameters(), lr=5e-3)
for _ in range(14):
    ids = torch.randint(V, (6, T))
    loss = F.cross_entropy(net(ids).transpose(1, 2), ids)
    optimizer.zero_grad()
    loss.backward()
    optimizer.step()
