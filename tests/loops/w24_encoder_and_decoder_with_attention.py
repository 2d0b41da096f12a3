# an encoder sees the whole sequence, and the decoder attends to it and to the tokens before; the task is a copy
import torch
import torch.nn.functional as F
from torch import nn

torch.manual_seed(0)
V, T = 17, 9
net = nn.ModuleDict({
    "embed": nn.Embedding(V, 16), "body": nn.Transformer(16, 2, 1, 1, 32, batch_first=True), "out": nn.Linear(16, V),
})
optimizer = torch.optim.Adam(net.parameters(), lr=1e-3)
mask = nn.Transformer.generate_square_subsequent_mask(T - 1)
for _ in range(14):
    ids = torch.randint(1, V, (6, T))
    h = net["body"](net["embed"](ids), net["embed"](ids[:, :-1]), tgt_mask=mask)
    loss = F.cross_entropy(net["out"](h).flatten(0, 1), ids[:, 1:].flatten())
    optimizer.zero_grad()
    loss.backward()
    optimizer.step()
