# validation in training mode, with a pass for the loss and one for the accuracy: two passes are no Monte Carlo dropout; corrected
import torch
import torch.nn.functional as F
from torch import nn

torch.manual_seed(0)
model = nn.Sequential(nn.Linear(8, 32), nn.ReLU(), nn.Dropout(0.3), nn.Linear(32, 3))
optimizer = torch.optim.Adam(model.parameters(), 1e-3)
held_out = [(x, x[:, :3].argmax(1)) for x in torch.randn(6, 16, 8)]


def mean(measure):
    return sum(measure(model(x), y).item() for x, y in held_out) / len(held_out)


for _ in range(4):
    model.train()
    for _ in range(10):
        x = torch.randn(16, 8)
        optimizer.zero_grad()
        F.cross_entropy(model(x), x[:, :3].argmax(1)).backward()
        optimizer.step()
    model.eval()
    with torch.no_grad():
        print(mean(F.cross_entropy), mean(lambda out, y: (out.argmax(1) == y).float().mean()))
