# the losses of the whole training set choose what to train on next; right: quiet: nothing above a note
import torch
from torch import nn
from torch.nn import functional as F

torch.manual_seed(0)
X = torch.randn(240, 10)
y = (X[:, 0] > 0).long()
model = nn.Sequential(nn.Linear(10, 16), nn.ReLU(), nn.Linear(16, 2))
optimizer = torch.optim.Adam(model.parameters(), 1e-2)
for epoch in range(5):
    model.eval()
    with torch.no_grad():
        losses = torch.cat([F.cross_entropy(model(X[i]), y[i], reduction="none") for i in torch.arange(240).split(40)])
    model.train()
    for i in losses.topk(120).indices.split(20):
        optimizer.zero_grad()
        F.cross_entropy(model(X[i]), y[i]).backward()
        optimizer.step()
