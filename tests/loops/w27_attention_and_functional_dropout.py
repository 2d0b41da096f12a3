# healthy: attention and functional dropout get the mode, and one probability is 0
import torch
import torch.nn.functional as F
from torch import nn


class Net(nn.Module):
    def __init__(self, p=0.1):
        super().__init__()
        self.p, self.a, self.b = p, nn.Linear(4, 24), nn.Linear(8, 3)
    def forward(self, x):
        q, k, v = self.a(x.unflatten(1, (3, 4))).chunk(3, -1)
        h = F.scaled_dot_product_attention(q, k, v, dropout_p=self.p if self.training else 0.0)
        h = F.alpha_dropout(F.dropout(h, 0.0), self.p, self.training)
        return self.b(F.dropout(h.mean(1), self.p, self.training, True))

torch.manual_seed(5)
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
