# attention by hand with the mask of the wrong triangle; the labels are shifted inside the loss, as in transformers
import torch
import torch.nn.functional as F
from torch import nn

torch.manual_seed(0)
V, T = 13, 8


class Block(nn.Module):
    def __init__(self):
        super().__init__()
        self.embed, self.qkv, self.out = nn.Embedding(V, 12), nn.Linear(12, 36), nn.Linear(12, V)
        self.place = nn.Parameter(0.1 * torch.randn(T, 12))

    def forward(self, ids):
        h = self.embed(ids) + self.place
        q, k, v = self.qkv(h).chunk(3, -1)
        hidden = torch.ones(T, T, dtype=torch.bool).tril(-1)
        a = (q @ k.transpose(1, 2) / 12**0.5).masked_fill(hidden, float("-inf")).softmax(-1)
        return self.out(h + a @ v)


def shifted_loss(logits, labels):
    labels = F.pad(labels, (0, 1), value=-100)[:, 1:]
    return F.cross_entropy(logits.float().view(-1, V), labels.reshape(-1), ignore_index=-100)


net = Block()
optimizer = torch.optim.Adam(net.parameters(), lr=1e-2)
for _ in range(14):
    ids = torch.randint(V, (6, T))
    loss = shifted_loss(net(ids), ids)
    optimizer.zero_grad()
    loss.backward()
    optimizer.step()
