# reentrant checkpoints from the first layer on: only what follows them learns; right: W07 fault
import torch
from torch import nn
from torch.nn import functional as F

torch.manual_seed(0)
import warnings

from torch.utils.checkpoint import checkpoint

warnings.simplefilter("ignore")


class Deep(nn.Module):
    def __init__(self):
        super().__init__()
        self.layers = nn.ModuleList(nn.Sequential(nn.Linear(12, 12), nn.Tanh()) for _ in range(3))
        self.out = nn.Linear(12, 1)

    def forward(self, x):
        for layer in self.layers:
            x = checkpoint(layer, x, use_reentrant=True)
        return self.out(x)


model = Deep()
optimizer = torch.optim.Adam(model.parameters(), 1e-2)
for _ in range(20):
    x = torch.randn(8, 12)
    with torch.autocast("cpu", torch.bfloat16):
        loss = F.mse_loss(model(x), x[:, :1])
    optimizer.zero_grad()
    loss.backward()
    optimizer.step()
