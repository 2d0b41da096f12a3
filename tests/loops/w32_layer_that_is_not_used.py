# healthy: a branch with batch normalization is not used in this stage
import torch
import torch.nn.functional as F
from torch import nn


class Net(nn.Module):
    def __init__(self):
        super().__init__()
        self.a, self.b = nn.Linear(8, 16), nn.Linear(16, 3)
        self.later = nn.BatchNorm1d(16)
    def forward(self, x, late=False):
        h = self.a(x).relu()
        return self.b(self.later(h) if late else h)

torch.manual_seed(4)
net = Net()
optimizer = torch.optim.SGD([*net.a.parameters(), *net.b.parameters()], lr=0.05)
for _ in range(25):
    x = torch.randn(16, 8) * 3 + 2
    optimizer.zero_grad()
    F.cross_entropy(net(x), x[:, :3].argmax(1)).backward()
    optimizer.step()
