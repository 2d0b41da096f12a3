# a prefix language model: the first four tokens see each other, and only later ones have a loss
import torch
import torch.nn.functional as F
from torch import nn

torch.manual_seed(0)
V, T, P = 17, 10, 4


class Model(nn.Module):
    def __init__(self):
        super().__init__()
        self.embed, self.place, self.out = nn.Embedding(V, 16), nn.Embedding(T, 16), nn.Linear(16, V)
        self.attention = nn.MultiheadAttention(16, 2, batch_first=True)

    def forward(self, ids):
        n = ids.shape[1]
        h = self.embed(ids) + self.place(torch.arange(n))
        hidden = torch.ones(n, n, dtype=torch.bool).triu(1)
        hidden[:, :P] = False
        return self.out(h + self.attention(h, h, h, attn_mask=hidden, need_weights=False)[0])


net = Model()
optimizer = torch.optim.Adam(net.parameters(), lr=5e-3)
for _ in range(14):
    ids = torch.randint(1, V, (6, T))
    goal = ids[:, 1:].clone()
    goal[:, : P - 1] = -100
    loss = F.cross_entropy(net(ids[:, :-1]).flatten(0, 1), goal.flatten())
    optimizer.zero_grad()
    loss.backward()
    optimizer.step()
