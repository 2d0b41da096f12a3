# features are detached on their way to the head, both are in the optimizer; right: W07 fault at the detach
import torch
from torch import nn
from torch.nn import functional as F

torch.manual_seed(0)
class Model(nn.Module):
    def __init__(self):
        super().__init__()
        self.backbone = nn.Sequential(nn.Conv2d(1, 4, 3), nn.ReLU(), nn.Flatten())
        self.head = nn.Linear(144, 3)

    def forward(self, x):
        features = self.backbone(x).detach()  # left from an experiment with frozen features
        return self.head(features)


model = Model()
optimizer = torch.optim.AdamW(model.parameters(), 1e-3)
for _ in range(30):
    x, y = torch.randn(8, 1, 8, 8), torch.randint(3, (8,))
    optimizer.zero_grad()
    F.cross_entropy(model(x), y).backward()
    optimizer.step()
