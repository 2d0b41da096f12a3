# cross-validation with one model whose layers are reset in place, and one optimizer a fold; right: quiet: nothing above a note
import torch
from torch import nn
from torch.nn import functional as F

torch.manual_seed(0)
def reset(layer):
    if hasattr(layer, "reset_parameters"):
        layer.reset_parameters()


X = torch.randn(120, 8)
y = X[:, :1].sin()
model = nn.Sequential(nn.Linear(8, 16), nn.Tanh(), nn.Linear(16, 1))
for fold in range(4):
    model.apply(reset)
    optimizer = torch.optim.SGD(model.parameters(), lr=0.05)
    held = torch.arange(120) % 4 == fold
    for epoch in range(5):
        model.train()
        for batch in (~held).nonzero()[:, 0].split(15):
            loss = F.mse_loss(model(X[batch]), y[batch])
            optimizer.zero_grad()
            loss.backward()
            optimizer.step()
    model.eval()
    with torch.no_grad():
        errors = [F.mse_loss(model(X[batch]), y[batch]).item() for batch in held.nonzero()[:, 0].split(10)]
    print(fold, sum(errors) / len(errors))
