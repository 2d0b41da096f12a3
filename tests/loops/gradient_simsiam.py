# SimSiam: the target side is detached; right: quiet: nothing above a note
import torch
from torch import nn
from torch.nn import functional as F

torch.manual_seed(0)
encoder = nn.Sequential(nn.Linear(10, 16), nn.BatchNorm1d(16), nn.ReLU(), nn.Linear(16, 8))
predictor = nn.Sequential(nn.Linear(8, 4), nn.ReLU(), nn.Linear(4, 8))
optimizer = torch.optim.SGD([*encoder.parameters(), *predictor.parameters()], 0.05)
for _ in range(30):
    x = torch.randn(16, 10)
    a, b = (encoder(x + 0.1 * torch.randn_like(x)) for _ in range(2))
    loss = -(F.cosine_similarity(predictor(a), b.detach()) + F.cosine_similarity(predictor(b), a.detach())).mean() / 2
    optimizer.zero_grad()
    loss.backward()
    optimizer.step()
