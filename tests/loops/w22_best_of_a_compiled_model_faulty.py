# the best state of a compiled model is kept without a copy | W22 fault
import copy
import torch
import torch.nn.functional as F
from torch import nn


torch.manual_seed(1)
net = nn.Sequential(nn.Linear(6, 12), nn.BatchNorm1d(12), nn.ReLU(), nn.Linear(12, 4))
compiled = torch.compile(net, backend="aot_eager")
opt = torch.optim.AdamW(net.parameters(), lr=2e-3)
for epoch in range(3):
    for _ in range(6):
        x = torch.randn(24, 6)
        opt.zero_grad()
        F.cross_entropy(compiled(x), x[:, :4].argmax(1)).backward()
        opt.step()
    if epoch == 0:
        best = compiled.state_dict()
compiled.load_state_dict(best)
