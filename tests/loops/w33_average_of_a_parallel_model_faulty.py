# the average is updated by names that a wrapper has changed, accumulating, in two groups | W33 warning
import copy
import torch
import torch.nn.functional as F
from torch import nn


class Ema:
    def __init__(self, model, decay):
        self.module, self.decay = copy.deepcopy(model).requires_grad_(False), decay
    @torch.no_grad()
    def update(self, model):
        state = model.state_dict()
        for name, value in self.module.state_dict().items():
            if name in state and value.dtype.is_floating_point:
                value.mul_(self.decay).add_(state[name], alpha=1 - self.decay)

class Parallel(nn.Module):
    def __init__(self, module):
        super().__init__()
        self.module = module
    def forward(self, x):
        return self.module(x)

torch.manual_seed(8)
inner = nn.Sequential(nn.Linear(10, 16), nn.LayerNorm(16), nn.ReLU(), nn.Linear(16, 2))
ema = Ema(inner, 0.9)
net = Parallel(inner)
optimizer = torch.optim.AdamW([{"params": inner[:2].parameters()}, {"params": inner[3].parameters()}], lr=1e-2)
held_out = torch.randn(48, 10)
for epoch in range(4):
    net.train()
    for _ in range(6):
        for _ in range(2):
            x = torch.randn(16, 10)
            with torch.autocast("cpu", dtype=torch.bfloat16):
                loss = F.cross_entropy(net(x), (x[:, 0] > 0).long()) / 2
            loss.backward()
        optimizer.step()
        optimizer.zero_grad()
        ema.update(net)
    ema.module.eval()
    with torch.no_grad():
        print((ema.module(held_out).argmax(1) == (held_out[:, 0] > 0)).float().mean().item())
