# the root of the mean square: the model squeezes its output to [B], and targets are [B, 1]; accumulated, in bfloat16
import torch
import torch.nn.functional as F
from torch import nn

torch.manual_seed(0)
class Regressor(nn.Module):
    def __init__(self):
        super().__init__()
        self.layers = nn.Sequential(nn.Linear(6, 12), nn.GELU(), nn.Linear(12, 1))

    def forward(self, x):
        return self.layers(x).squeeze(-1)


model = Regressor()
optimizer = torch.optim.AdamW(model.parameters(), lr=5e-3)
for number in range(1, 41):
    x = torch.randn(16, 6)
    y = x[:, :1] * 2
    with torch.autocast("cpu", dtype=torch.bfloat16):
        diff = torch.sub(model(x), y)
        loss = torch.sqrt((diff * diff).mean()) / 2
    loss.backward()
    if number % 2 == 0:
        optimizer.step()
        optimizer.zero_grad()
