# healthy: every epoch's state is put into a buffer and loaded back at once
import copy
import torch
import torch.nn.functional as F
from torch import nn


torch.manual_seed(0)
model = nn.Sequential(nn.Linear(6, 12), nn.BatchNorm1d(12), nn.ReLU(), nn.Linear(12, 3))
optimizer = torch.optim.Adam(model.parameters(), lr=1e-3)
for epoch in range(4):
    for _ in range(8):
        x = torch.randn(16, 6)
        optimizer.zero_grad()
        F.cross_entropy(model(x), x[:, :3].argmax(1)).backward()
        optimizer.step()
    checkpoint = {"epoch": epoch, "model": model.state_dict()}
    model.load_state_dict(checkpoint["model"])
