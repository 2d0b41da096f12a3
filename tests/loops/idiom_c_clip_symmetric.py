# own | healthy: CLIP's symmetric cross-entropy over rows and columns of one matrix of similarities
import copy, torch, torch.nn as nn, torch.nn.functional as F
torch.manual_seed(0)
a, b = nn.Linear(8, 6), nn.Linear(5, 6); t = nn.Parameter(torch.zeros(())); opt = torch.optim.Adam([*a.parameters(), *b.parameters(), t])
for _ in range(35):
    x, y = torch.randn(12, 8), torch.randn(12, 5); s = F.normalize(a(x), dim=-1) @ F.normalize(b(y), dim=-1).T * t.exp(); g = torch.arange(12)
    loss = (F.cross_entropy(s, g) + F.cross_entropy(s.T, g)) / 2; opt.zero_grad(); loss.backward(); opt.step()
