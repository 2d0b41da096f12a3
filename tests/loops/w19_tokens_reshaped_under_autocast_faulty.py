# softmax of token scores [B, T, V] in bfloat16, flattened before the loss, with accumulation; the function is imported by name
import torch
from torch import nn
from torch.nn.functional import cross_entropy

torch.manual_seed(0)
model = nn.Sequential(nn.Embedding(11, 16), nn.Linear(16, 11))
optimizer = torch.optim.AdamW(model.parameters(), lr=1e-2)
for number in range(1, 33):
    ids = torch.randint(11, (6, 7))
    with torch.autocast("cpu", torch.bfloat16):
        probabilities = model(ids).softmax(-1)
        loss = cross_entropy(probabilities.flatten(0, 1), (10 - ids).reshape(-1)) / 2
    loss.backward()
    if number % 2 == 0:
        optimizer.step()
        optimizer.zero_grad()
