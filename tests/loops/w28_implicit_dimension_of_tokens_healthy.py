# LogSoftmax without a dim takes dim 0 of [B, T, V]; the loss gets the tokens in one row | corrected
import torch
import torch.nn.functional as F
from torch import nn

torch.manual_seed(0)
import warnings

warnings.simplefilter("ignore")
model = nn.Sequential(nn.Embedding(9, 12), nn.Linear(12, 9), nn.LogSoftmax(dim=-1))
optimizer = torch.optim.AdamW(model.parameters(), lr=1e-2)
for number in range(1, 31):
    ids = torch.randint(9, (5, 7))
    loss = F.nll_loss(model(ids).view(-1, 9), (8 - ids).view(-1), ignore_index=0) / 3
    loss.backward()
    if number % 3 == 0:
        optimizer.step()
        optimizer.zero_grad()
