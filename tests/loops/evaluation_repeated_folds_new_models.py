# a new model and split for every one of several seeds, several validation batches; right: quiet: nothing above a note
import torch
from torch import nn
from torch.nn import functional as F

torch.manual_seed(0)
X = torch.randn(150, 9)
y = (X.sum(1) > 0).float()
for seed in range(4):
    order = torch.randperm(150)
    train, val = order[:100], order[100:]
    model = nn.Sequential(nn.Linear(9, 12), nn.ReLU(), nn.Linear(12, 1))
    optimizer = torch.optim.RMSprop(model.parameters(), 1e-3)
    for epoch in range(4):
        model.train()
        for i in train.split(10):
            loss = F.binary_cross_entropy_with_logits(model(X[i])[:, 0], y[i])
            optimizer.zero_grad()
            loss.backward()
            optimizer.step()
        model.eval()
        with torch.inference_mode():
            val_loss = sum(F.binary_cross_entropy_with_logits(model(X[i])[:, 0], y[i]) for i in val.split(10))
