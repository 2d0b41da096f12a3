# a method freezes the backbone by an attribute of the module | W29 warning
import torch
import torch.nn.functional as F
from torch import nn


class Net(nn.Module):
    def __init__(self):
        super().__init__()
        self.backbone = nn.Sequential(nn.Conv1d(1, 4, 3), nn.ReLU(), nn.Flatten())
        self.head = nn.Linear(24, 3)
    def freeze(self, frozen=True):
        self.backbone.requires_grad = not frozen
    def forward(self, x):
        return self.head(self.backbone(x[:, None]))

torch.manual_seed(7)
net = Net()
net.freeze()
print(net.backbone.requires_grad)
optimizer = torch.optim.SGD(net.parameters(), lr=0.05, momentum=0.9)

for _ in range(15):
    x = torch.randn(16, 8)
    optimizer.zero_grad()
    F.cross_entropy(net(x), x[:, :3].argmax(1)).backward()
    optimizer.step()
