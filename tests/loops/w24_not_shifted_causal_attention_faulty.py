# a causal transformer is compared with its own input, in NLLLoss of log_softmax
import torch
import torch.nn.functional as F
from torch import nn

torch.manual_seed(0)
V, T = 21, 8


class Model(nn.Module):
    def __init__(self):
        super().__init__()
        self.embed, self.out = nn.Embedding(V, 16), nn.Linear(16, V)
        self.qkv = nn.Linear(16, 48)

    def forward(self, ids):
        h = self.embed(ids)
        q, k, v = (one.unflatten(-1, (2, 8)).transpose(1, 2) for one in self.qkv(h).chunk(3, -1))
        a = F.scaled_dot_product_attention(q, k, v, is_causal=True)
        return self.out(h + a.transpose(1, 2).flatten(2)).log_softmax(-1)


model = Model()
optimizer = torch.optim.AdamW(model.parameters(), lr=3e-3)
for _ in range(14):
    tokens = torch.randint(V, (6, T))
    out = model(tokens)
    loss = F.nll_loss(out.flatten(0, 1), tokens.flatten())
    optimizer.zero_grad()
    loss.backward()
    optimizer.step()
