# parameters are chosen by name and frozen by a misspelled attribute, in two groups | W29 warning
import torch
import torch.nn.functional as F
from torch import nn


torch.manual_seed(8)
net = nn.Sequential(nn.Linear(8, 16), nn.LayerNorm(16), nn.ReLU(), nn.Linear(16, 3))
for name, parameter in net.named_parameters():
    if name.startswith(("0.", "1.")):
        parameter.requires_gradient = False
optimizer = torch.optim.AdamW([{"params": net[:2].parameters(), "lr": 1e-4}, {"params": net[3].parameters()}], lr=1e-2)
for _ in range(8):
    for _ in range(2):
        x = torch.randn(16, 8)
        with torch.autocast("cpu", dtype=torch.bfloat16):
            loss = F.cross_entropy(net(x), x[:, :3].argmax(1)) / 2
        loss.backward()
    optimizer.step()
    optimizer.zero_grad()
