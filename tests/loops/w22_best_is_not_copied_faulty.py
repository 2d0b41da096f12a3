# the best state is kept without a copy, and loaded at the end | W22 fault
import copy
import torch
import torch.nn.functional as F
from torch import nn


torch.manual_seed(7)
model = nn.Sequential(nn.Linear(6, 12), nn.ReLU(), nn.Linear(12, 3))
optimizer = torch.optim.Adam(model.parameters(), lr=0.05)
held_out = torch.randn(40, 6)
best, least = None, float("inf")
for epoch in range(6):
    model.train()
    for _ in range(6):
        x = torch.randn(16, 6)
        optimizer.zero_grad()
        F.cross_entropy(model(x), x[:, :3].argmax(1)).backward()
        optimizer.step()
    model.eval()
    with torch.no_grad():
        loss = F.cross_entropy(model(held_out), held_out[:, :3].argmax(1)).item() + (epoch > 2)
    if loss < least:
        best, least = model.state_dict(), loss
model.load_state_dict(best)
