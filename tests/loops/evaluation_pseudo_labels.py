# a model labels a pool, trains on what it is sure of, and labels the pool again; right: quiet: nothing above a note
import torch
from torch import nn
from torch.nn import functional as F

torch.manual_seed(0)
X = torch.randn(300, 10)
y = (X[:, 0] > 0).long()
model = nn.Sequential(nn.Linear(10, 16), nn.ReLU(), nn.Linear(16, 2))
optimizer = torch.optim.Adam(model.parameters(), 1e-2)
pool = X[100:]
inputs, labels = X[:100], y[:100]
for round in range(4):
    model.eval()
    with torch.no_grad():
        sure = torch.cat([model(x) for x in pool.split(20)]).softmax(1)
    model.train()
    chosen = sure.amax(1) > sure.amax(1).median()
    inputs, labels = torch.cat([X[:100], pool[chosen]]), torch.cat([y[:100], sure[chosen].argmax(1)])
    for i in torch.randperm(len(inputs)).split(20):
        optimizer.zero_grad()
        F.cross_entropy(model(inputs[i]), labels[i]).backward()
        optimizer.step()
