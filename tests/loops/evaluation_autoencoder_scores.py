# an autoencoder's errors on its own training set set a threshold, once; right: quiet: nothing above a note
import torch
from torch import nn
from torch.nn import functional as F

torch.manual_seed(0)
model = nn.Sequential(nn.Linear(20, 4), nn.Tanh(), nn.Linear(4, 20))
optimizer = torch.optim.Adam(model.parameters(), 1e-2)
normal, strange = torch.randn(200, 20), torch.randn(40, 20) * 3
for epoch in range(5):
    model.train()
    for x in normal.split(20):
        optimizer.zero_grad()
        F.mse_loss(model(x), x).backward()
        optimizer.step()
model.eval()
with torch.no_grad():
    errors = torch.cat([(model(x) - x).square().mean(1) for x in normal[:100].split(20)])
    threshold = errors.quantile(0.95)
    found = torch.cat([(model(x) - x).square().mean(1) for x in strange.split(20)]) > threshold
