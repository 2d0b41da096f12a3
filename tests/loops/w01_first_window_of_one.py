# the step is due at micro-batch 0, 4, 8, …: the first window has one micro-batch | fault
import torch
import torch.nn.functional as F
from torch import nn

torch.manual_seed(0)
model = nn.Sequential(nn.Linear(8, 16), nn.ReLU(), nn.Linear(16, 4))

optimizer = torch.optim.AdamW(model.parameters(), lr=1e-2, foreach=True)
for epoch in range(3):
    for number in range(24):
        x = torch.randn(6, 8)
        loss = F.cross_entropy(model(x), x[:, :4].argmax(1)) / 4
        loss.backward()
        if number % 4 == 0:
            optimizer.step()
            optimizer.zero_grad()
