# bfloat16 parameters, SGD: the gains of two norms round away every step | fault
import torch
import torch.nn.functional as F
from torch import nn

torch.manual_seed(0)
class Block(nn.Module):
    def __init__(self):
        super().__init__()
        self.norm, self.mix = nn.LayerNorm(16), nn.Linear(16, 16)

    def forward(self, x):
        return x + self.mix(F.gelu(self.norm(x)))


model = nn.Sequential(nn.Linear(8, 16), Block(), Block(), nn.Linear(16, 4)).bfloat16()
optimizer = torch.optim.SGD(model.parameters(), lr=2e-3)
for step in range(30):
    x = torch.randn(16, 8)
    loss = F.cross_entropy(model(x.bfloat16()).float(), x[:, :4].argmax(1))
    optimizer.zero_grad(set_to_none=False)
    loss.backward()
    optimizer.step()
