# a text autoencoder without teacher forcing: every position is decoded from one state
import torch
import torch.nn.functional as F
from torch import nn

torch.manual_seed(0)
V, T = 17, 10


class Autoencoder(nn.Module):
    def __init__(self):
        super().__init__()
        self.embed = nn.Embedding(V, 12)
        self.encoder, self.decoder = nn.GRU(12, 32, batch_first=True), nn.GRU(12, 32, batch_first=True)
        self.out = nn.Linear(32, V)
        self.narrow = nn.Linear(32, 12)

    def forward(self, ids):
        _, state = self.encoder(self.embed(ids))
        steps = state[0][:, None, :].expand(-1, ids.shape[1] - 1, -1)
        return self.out(self.decoder(self.narrow(steps))[0])


net = Autoencoder()
optimizer = torch.optim.Adam(net.parameters(), lr=5e-3)
for _ in range(14):
    ids = torch.randint(1, V, (6, T))
    loss = F.cross_entropy(net(ids).reshape(-1, V), ids[:, 1:].reshape(-1))
    optimizer.zero_grad()
    loss.backward()
    optimizer.step()
