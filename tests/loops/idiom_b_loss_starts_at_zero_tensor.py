# own | healthy: a loss that starts as torch.tensor(0.0) adds up three divided terms before one backward
import copy, torch, torch.nn as nn, torch.nn.functional as F
torch.manual_seed(0)
net = nn.Linear(8, 4); opt = torch.optim.Adam(net.parameters())
for _ in range(35):
    loss = torch.tensor(0.0)
    for _ in range(3):
        x = torch.randn(16, 8); loss = loss + F.cross_entropy(net(x), x[:, :4].argmax(1)) / 3
    opt.zero_grad(); loss.backward(); opt.step()
