# cross-validation in which the same model is reset and a new optimizer made for every fold; right: quiet: nothing above a note
import torch
from torch import nn
from torch.nn import functional as F

torch.manual_seed(0)
import copy

X = torch.randn(200, 10)
y = (X[:, 0] > 0).long()
model = nn.Sequential(nn.Linear(10, 16), nn.ReLU(), nn.Linear(16, 2))
initial = copy.deepcopy(model.state_dict())
folds = torch.randperm(200).chunk(5)
for fold, val_index in enumerate(folds):
    model.load_state_dict(initial)
    optimizer = torch.optim.Adam(model.parameters(), lr=1e-2)
    train_index = torch.cat([one for number, one in enumerate(folds) if number != fold])
    for epoch in range(4):
        model.train()
        for batch in train_index[torch.randperm(160)].split(20):
            optimizer.zero_grad()
            F.cross_entropy(model(X[batch]), y[batch]).backward()
            optimizer.step()
        if epoch % 2 == 0:
            model.eval()
            with torch.no_grad():
                val_loss = sum(F.cross_entropy(model(X[batch]), y[batch]).item() for batch in val_index.split(10))
