# healthy: attributes with similar names keep what requires_grad was
import torch
import torch.nn.functional as F
from torch import nn


torch.manual_seed(5)
net = nn.Sequential(nn.Linear(8, 16), nn.ReLU(), nn.Linear(16, 3))
for p in net.parameters():
    p.requires_grad_before, p.ds_requires_grad, p.grad_required = False, False, False
    p.required = False
optimizer = torch.optim.RMSprop(net.parameters(), lr=1e-3)

for _ in range(15):
    x = torch.randn(16, 8)
    optimizer.zero_grad()
    F.cross_entropy(net(x), x[:, :3].argmax(1)).backward()
    optimizer.step()
