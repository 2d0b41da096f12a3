# own | healthy: Monte Carlo dropout: dropout in evaluation on purpose, and one batch of training is predicted
import copy, torch, torch.nn as nn, torch.nn.functional as F
torch.manual_seed(0)
class N(nn.Module):
    def __init__(s): super().__init__(); s.a, s.b = nn.Linear(8, 16), nn.Linear(16, 2)
    def forward(s, x): return s.b(F.dropout(s.a(x).relu(), 0.2, training=True))
net = N(); opt = torch.optim.Adam(net.parameters())
for _ in range(35):
    x = torch.randn(16, 8); loss = F.cross_entropy(net(x), (x[:, 0] > 0).long()); opt.zero_grad(); loss.backward(); opt.step()
net.eval()
with torch.no_grad(): torch.stack([net(x) for _ in range(5)]).std(0)
