# rare samples are repeated before the split, so copies of them are on both sides; right: W16 fault at the evaluation
import torch
from torch import nn
from torch.nn import functional as F

torch.manual_seed(0)
X = torch.randn(200, 12)
y = (X[:, 0] > 1).long()
rare = y == 1
X, y = torch.cat([X, X[rare].repeat(4, 1)]), torch.cat([y, y[rare].repeat(4)])
order = torch.randperm(len(X))
cut = int(0.75 * len(X))
train, val = order[:cut], order[cut:]
model = nn.Sequential(nn.Linear(12, 16), nn.Dropout(0.2), nn.ReLU(), nn.Linear(16, 2))
optimizer = torch.optim.Adam(model.parameters(), 1e-2)


def epoch_of(indices, train):
    model.train(train)
    losses = []
    for i in indices.split(16):
        with torch.set_grad_enabled(train):
            loss = F.cross_entropy(model(X[i]), y[i])
        if train:
            optimizer.zero_grad()
            loss.backward()
            optimizer.step()
        losses.append(loss.item())
    return sum(losses) / len(losses)


for epoch in range(5):
    train_loss = epoch_of(train[torch.randperm(len(train))], True)
    val_loss = epoch_of(val, False)
    print(epoch, train_loss, val_loss)
