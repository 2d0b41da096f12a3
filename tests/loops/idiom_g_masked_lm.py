# own | healthy: masked language modeling: the targets are the inputs, except where the input is masked
import copy, torch, torch.nn as nn, torch.nn.functional as F
torch.manual_seed(0)
net = nn.Sequential(nn.Embedding(30, 16), nn.Linear(16, 30)); opt = torch.optim.Adam(net.parameters())
for _ in range(35):
    ids = torch.randint(1, 30, (8, 12)); hit = torch.rand(ids.shape) < 0.15; goal = ids.masked_fill(~hit, -100); inp = ids.masked_fill(hit, 0)
    loss = F.cross_entropy(net(inp).flatten(0, 1), goal.flatten()); opt.zero_grad(); loss.backward(); opt.step()
