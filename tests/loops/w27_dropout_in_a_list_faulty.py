# dropout layers are kept in a list of Python | W27 warning
import torch
import torch.nn.functional as F
from torch import nn


class Net(nn.Module):
    def __init__(self):
        super().__init__()
        self.layers = nn.ModuleList([nn.Linear(12, 16), nn.Linear(16, 16)])
        self.drops = [nn.Dropout(0.1), nn.AlphaDropout(0.1)]
        self.out = nn.Linear(16, 3)
    def forward(self, x):
        for layer, drop in zip(self.layers, self.drops):
            x = drop(layer(x).relu())
        return self.out(x)

torch.manual_seed(9)
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
