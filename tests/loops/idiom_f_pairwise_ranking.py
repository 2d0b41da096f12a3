# own | healthy: pairwise ranking: [B, B] of scores that are compared on purpose
import copy, torch, torch.nn as nn, torch.nn.functional as F
torch.manual_seed(0)
net = nn.Linear(8, 1); opt = torch.optim.Adam(net.parameters())
for _ in range(35):
    x = torch.randn(10, 8); y = x[:, 0]; s = net(x).squeeze(-1); d = s[:, None] - s[None, :]; loss = F.softplus(-d * (y[:, None] - y[None, :]).sign()).mean(); opt.zero_grad(); loss.backward(); opt.step()
