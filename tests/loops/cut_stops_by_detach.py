# after the first evaluation the features stay detached; right: W07 fault: gradients that stop
import torch
from torch import nn
from torch.nn import functional as F

torch.manual_seed(0)
class Model(nn.Module):
    def __init__(self):
        super().__init__()
        self.encoder, self.head, self.caching = nn.Linear(8, 16), nn.Linear(16, 1), False

    def forward(self, x):
        hidden = self.encoder(x).relu()
        if self.caching:
            hidden = hidden.detach()
        return self.head(hidden)


model = Model()
optimizer = torch.optim.Adam(model.parameters(), 1e-2)
for epoch in range(4):
    model.train()
    for _ in range(12):
        x = torch.randn(16, 8)
        optimizer.zero_grad()
        F.mse_loss(model(x), x[:, :1]).backward()
        optimizer.step()
    model.eval()
    model.caching = True  # never switched off
    with torch.no_grad():
        model(torch.randn(16, 8))
