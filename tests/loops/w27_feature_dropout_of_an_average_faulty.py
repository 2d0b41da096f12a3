# the averaged model is evaluated, and its functional dropout of channels drops | W27 warning
import torch
import torch.nn.functional as F
from torch import nn


from torch.optim.swa_utils import AveragedModel

class Net(nn.Module):
    def __init__(self):
        super().__init__()
        self.conv, self.out = nn.Conv1d(1, 6, 3), nn.Linear(60, 3)
    def forward(self, x):
        h = F.dropout1d(self.conv(x[:, None]).relu(), 0.3)
        return self.out(h.flatten(1))

torch.manual_seed(11)
net = Net()
swa = AveragedModel(net)
X, Y = torch.randn(160, 12), torch.randint(0, 3, (160,))
optimizer = torch.optim.SGD(net.parameters(), lr=0.05)
for epoch in range(3):
    swa.train()
    net.train()
    for i in range(0, 128, 32):
        optimizer.zero_grad()
        F.cross_entropy(net(X[i : i + 32]), Y[i : i + 32]).backward()
        optimizer.step()
        swa.update_parameters(net)
    swa.eval()
    net.eval()
    with torch.no_grad():
        print(F.cross_entropy(swa(X[128:]), Y[128:]).item(), F.cross_entropy(net(X[128:]), Y[128:]).item())
