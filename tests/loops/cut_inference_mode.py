# an encoder in inference mode while it is in the optimizer; right: W07 fault
import torch
from torch import nn
from torch.nn import functional as F

torch.manual_seed(0)
encoder, head = nn.Sequential(nn.Linear(10, 32), nn.BatchNorm1d(32), nn.ReLU()), nn.Linear(32, 2)
optimizer = torch.optim.SGD([{"params": encoder.parameters(), "lr": 1e-3}, {"params": head.parameters()}], lr=1e-1)
for _ in range(24):
    x = torch.randn(16, 10)
    with torch.inference_mode():
        features = encoder(x)
    loss = F.cross_entropy(head(features.clone()), (x[:, 0] > 0).long())
    optimizer.zero_grad()
    loss.backward()
    optimizer.step()
