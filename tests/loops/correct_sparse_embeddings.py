# sparse embeddings | nothing above a note
import torch
import torch.nn.functional as F
from torch import nn

torch.manual_seed(0)
table, head = (nn.Embedding(50, 8, sparse=True), nn.Linear(8, 4))
optimizers = (torch.optim.SparseAdam(list(table.parameters())), torch.optim.Adam(head.parameters()))
for number in range(1, 41):
    x = torch.randint(50, (6,))
    (F.cross_entropy(head(table(x)), x % 4) / 2).backward()
    if number % 2 == 0:
        for optimizer in optimizers:
            optimizer.step()
            optimizer.zero_grad()
