# the average misses every name of the compiled model, and is evaluated | W33 warning
import copy
import torch
import torch.nn.functional as F
from torch import nn


torch.manual_seed(3)
plain = nn.Sequential(nn.Linear(10, 16), nn.ReLU(), nn.Linear(16, 2))
ema = copy.deepcopy(plain).eval()
net = torch.compile(plain, backend="aot_eager")
opt = torch.optim.Adam(net.parameters(), lr=1e-2)
held_out = torch.randn(48, 10)
for epoch in range(3):
    for _ in range(8):
        x = torch.randn(16, 10)
        opt.zero_grad()
        F.cross_entropy(net(x), (x[:, 0] > 0).long()).backward()
        opt.step()
        new = dict(net.named_parameters())
        with torch.no_grad():
            for name, value in ema.named_parameters():
                value.lerp_(new.get(name, value), 0.1)
    with torch.no_grad():
        print(ema(held_out).softmax(1).mean(0))
