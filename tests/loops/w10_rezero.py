# residual branches are multiplied by a gain that starts at 0 | nothing
import torch
import torch.nn.functional as F
from torch import nn

torch.manual_seed(0)
class Branch(nn.Module):
    def __init__(self):
        super().__init__()
        self.mix, self.gain = nn.Linear(16, 16), nn.Parameter(torch.zeros(1))

    def forward(self, x):
        return x + self.gain * torch.tanh(self.mix(x))


model = nn.Sequential(nn.Linear(8, 16), Branch(), Branch(), nn.Linear(16, 4))
optimizer = torch.optim.AdamW(model.parameters(), lr=1e-2)
for step in range(30):
    x = torch.randn(6, 8)
    optimizer.zero_grad()
    F.cross_entropy(model(x), x[:, :4].argmax(1)).backward()
    optimizer.step()
