"""Train a small classifier for 20 steps. It learns, and nothing crashes, but the loop has three bugs."""

import torch
from torch import nn

ACCUMULATE = 4

torch.manual_seed(0)
data = torch.randn(512, 16)
labels = (data[:, 0] + data[:, 1] > 0).long()
model = nn.Sequential(nn.Linear(16, 32), nn.ReLU(), nn.Dropout(0.2), nn.Linear(32, 2))
optimizer = torch.optim.SGD(model.parameters(), lr=0.05)
model[3] = nn.Linear(32, 2)  # the optimizer holds the parameters of the layer that was here before
table = ["step   train loss   validation loss"]

for step in range(1, 21):
    for _ in range(ACCUMULATE):
        chosen = torch.randint(448, (32,))
        loss = nn.functional.cross_entropy(model(data[chosen]), labels[chosen])
        loss.backward()  # nobody divides by ACCUMULATE
    optimizer.step()
    optimizer.zero_grad()
    if step % 5 == 0:
        model.eval()  # and nobody calls model.train() again
        with torch.no_grad():
            validation = nn.functional.cross_entropy(model(data[448:]), labels[448:])
        table.append(f"{step:4}   {loss.item():10.4f}   {validation.item():15.4f}")
print("\n".join(table))
