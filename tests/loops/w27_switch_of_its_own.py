# healthy: an attribute of the model decides whether it drops in evaluation
import torch
import torch.nn.functional as F
from torch import nn


from torch.nn.functional import dropout as drop

class Net(nn.Module):
    def __init__(self):
        super().__init__()
        self.a, self.b, self.uncertainty = nn.Linear(12, 32), nn.Linear(32, 3), True
    def forward(self, x):
        h = drop(
            self.a(x).relu(),
            0.2,
            self.training or self.uncertainty,
        )
        return self.b(h)

torch.manual_seed(4)
net = Net()

X, Y = torch.randn(160, 12), torch.randint(0, 3, (160,))
optimizer = torch.optim.Adam(net.parameters(), lr=3e-3)
for epoch in range(3):
    net.train()
    for i in range(0, 128, 32):
        optimizer.zero_grad()
        F.cross_entropy(net(X[i : i + 32]), Y[i : i + 32]).backward()
        optimizer.step()
    net.eval()
    with torch.no_grad():
        print(F.cross_entropy(net(X[128:]), Y[128:]).item())
