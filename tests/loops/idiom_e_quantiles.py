# own | healthy: five quantiles [B, 5] against one target [B, 1]: the shapes differ on purpose
import copy, torch, torch.nn as nn, torch.nn.functional as F
torch.manual_seed(0)
net = nn.Linear(8, 5); opt = torch.optim.Adam(net.parameters()); q = torch.tensor([.1, .3, .5, .7, .9])
for _ in range(35):
    x = torch.randn(5, 8); y = x.sum(1, keepdim=True); e = y - net(x); loss = torch.maximum(q * e, (q - 1) * e).mean(); opt.zero_grad(); loss.backward(); opt.step()
