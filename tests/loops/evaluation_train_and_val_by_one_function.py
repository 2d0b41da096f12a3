# one function measures a part of the training set and the validation set; right: quiet: nothing above a note
import torch
from torch import nn
from torch.nn import functional as F

torch.manual_seed(0)
def run(model, loader, optimizer=None):
    model.train(optimizer is not None)
    total = 0.0
    with torch.set_grad_enabled(optimizer is not None):
        for x, y in loader:
            loss = F.mse_loss(model(x), y)
            if optimizer is not None:
                optimizer.zero_grad()
                loss.backward()
                optimizer.step()
            total += loss.item()
    return total / len(loader)


model = nn.Sequential(nn.Linear(6, 32), nn.GELU(), nn.Dropout(0.1), nn.Linear(32, 1))
optimizer = torch.optim.AdamW(model.parameters(), 1e-2)
x = torch.randn(400, 6)
y = x.prod(1, keepdim=True)
data = [(x[i : i + 20], y[i : i + 20]) for i in range(0, 400, 20)]
fit, held_out = data[:15], data[15:]
for epoch in range(5):
    run(model, fit, optimizer)
    print(run(model, fit[:5]), run(model, held_out))
