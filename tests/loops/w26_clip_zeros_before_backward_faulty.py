# gradients that were set to zero are clipped before backward(), in a helper | W26 fault
import torch
import torch.nn.functional as F
from torch import nn

def update(model, optimizer, loss):
    optimizer.zero_grad(set_to_none=False)
    nn.utils.clip_grad_norm_(model.parameters(), 0.1)
    loss.backward()
    optimizer.step()

torch.manual_seed(14)
net = nn.Sequential(nn.Linear(5, 10), nn.Tanh(), nn.Linear(10, 2))
opt = torch.optim.Adam(net.parameters(), lr=1e-2, foreach=True)
for _ in range(16):
    x = torch.randn(20, 5)
    update(net, opt, F.cross_entropy(net(x), (x[:, 0] > 0).long()))
