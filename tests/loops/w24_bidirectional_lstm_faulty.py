# the next token is predicted by a bidirectional LSTM
import torch
import torch.nn.functional as F
from torch import nn

torch.manual_seed(0)
V, T = 17, 10


class Model(nn.Module):
    def __init__(self):
        super().__init__()
        self.embed = nn.Embedding(V, 12)
        self.lstm = nn.LSTM(12, 16, batch_first=True, bidirectional=True)
        self.out = nn.Linear(32, V)

    def forward(self, ids):
        return self.out(self.lstm(self.embed(ids))[0])


net = Model()
optimizer = torch.optim.Adam(net.parameters(), lr=5e-3)
for _ in range(14):
    ids = torch.randint(1, V, (6, T))
    logits = net(ids[:, :-1])
    loss = F.cross_entropy(logits.reshape(-1, V), ids[:, 1:].reshape(-1))
    optimizer.zero_grad()
    loss.backward()
    optimizer.step()
