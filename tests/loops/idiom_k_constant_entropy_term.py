# own | healthy: the entropy of a fixed target is a term of the loss that needs no gradient
import copy, torch, torch.nn as nn, torch.nn.functional as F
torch.manual_seed(0)
net = nn.Linear(8, 4); opt = torch.optim.Adam(net.parameters())
for _ in range(35):
    x = torch.randn(16, 8); p = F.softmax(3 * x[:, :4], 1); h = (p * p.log()).sum(1).mean()
    loss = h - (p * F.log_softmax(net(x), 1)).sum(1).mean(); opt.zero_grad(); loss.backward(); opt.step()
