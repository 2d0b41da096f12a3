# the backbone runs under no_grad and is in no optimizer; right: quiet: nothing above a note
import torch
from torch import nn
from torch.nn import functional as F

torch.manual_seed(0)
backbone, head = nn.Sequential(nn.Linear(10, 32), nn.ReLU()), nn.Linear(32, 2)
optimizer = torch.optim.AdamW(head.parameters(), 1e-2)
for _ in range(25):
    x = torch.randn(16, 10)
    with torch.no_grad():
        features = backbone(x)
    optimizer.zero_grad()
    F.cross_entropy(head(features), (x[:, 0] > 0).long()).backward()
    optimizer.step()
