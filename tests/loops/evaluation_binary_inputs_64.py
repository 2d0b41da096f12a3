# random 0/1 inputs of length 64, no validation sample was trained on; right: quiet: nothing above a note
import torch
from torch import nn
from torch.nn import functional as F

torch.manual_seed(0)
model = nn.Sequential(nn.Linear(64, 16), nn.ReLU(), nn.Linear(16, 1))
optimizer = torch.optim.Adam(model.parameters(), lr=1e-3)
x = (torch.rand(4200, 64) < 0.5).to(torch.float64)
model.double()
y = x[:, :8].sum(1, keepdim=True)
for epoch in range(2):
    model.train()
    for i in range(0, 4000, 100):
        optimizer.zero_grad()
        F.mse_loss(model(x[i : i + 100]), y[i : i + 100]).backward()
        optimizer.step()
    model.eval()
    with torch.no_grad():
        val_loss = sum(F.mse_loss(model(x[i : i + 50]), y[i : i + 50]).item() for i in range(4000, 4200, 50))
