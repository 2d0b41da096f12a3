# own | healthy: InfoNCE in both directions: log_softmax over dim 0 and over dim 1 of a matrix of similarities
import copy, torch, torch.nn as nn, torch.nn.functional as F
torch.manual_seed(0)
a = nn.Linear(8, 6); opt = torch.optim.Adam(a.parameters())
for _ in range(35):
    x = torch.randn(12, 8); s = a(x) @ a(x + 0.1 * torch.randn_like(x)).T
    loss = -(F.log_softmax(s, dim=0).diag() + F.log_softmax(s, dim=1).diag()).mean(); opt.zero_grad(); loss.backward(); opt.step()
