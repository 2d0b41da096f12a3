# two optimizers take the same gradients on purpose | nothing
import torch
import torch.nn.functional as F
from torch import nn

torch.manual_seed(0)
model = nn.Sequential(nn.Linear(8, 16), nn.ReLU(), nn.Linear(16, 4))

slow, fast = torch.optim.SGD(model.parameters(), lr=1e-3), torch.optim.Adam(model.parameters(), lr=1e-3)
for step in range(30):
    x = torch.randn(6, 8)
    model.zero_grad()
    F.cross_entropy(model(x), x[:, :4].argmax(1)).backward()
    slow.step()
    fast.step()
