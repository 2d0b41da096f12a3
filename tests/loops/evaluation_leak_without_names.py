# a part of the batches that are trained on is all that is evaluated, epoch after epoch, and nothing says why; right: W16 fault at the evaluation
import torch
from torch import nn
from torch.nn import functional as F

torch.manual_seed(0)
model = nn.Sequential(nn.Linear(14, 20), nn.ReLU(), nn.Linear(20, 1))
optimizer = torch.optim.Adam(model.parameters(), 1e-2)
batches = [(torch.randn(8, 14), torch.randn(8, 1)) for _ in range(20)]
first, second = batches, batches[12:]
for epoch in range(4):
    model.train()
    for x, y in first:
        optimizer.zero_grad()
        with torch.autocast("cpu", torch.bfloat16):
            loss = F.mse_loss(model(x), y)
        loss.backward()
        optimizer.step()
    model.eval()
    with torch.no_grad():
        score = sum(F.mse_loss(model(x), y) for x, y in second) / len(second)
    if epoch == 0 or score < best:
        best = score
