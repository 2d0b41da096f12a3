# accuracy on the whole training set after every epoch, in a function of its own; right: quiet: nothing above a note
import torch
from torch import nn
from torch.nn import functional as F

torch.manual_seed(0)
class Net(nn.Module):
    def __init__(self):
        super().__init__()
        self.a, self.b = nn.Linear(12, 24), nn.Linear(24, 3)

    def forward(self, x):
        return self.b(torch.tanh(self.a(x)))


def accuracy(net, data):
    net.eval()
    with torch.no_grad():
        return sum((net(x).argmax(1) == y).sum().item() for x, y in data) / sum(len(y) for _, y in data)


net = Net()
opt = torch.optim.SGD(net.parameters(), lr=0.1, momentum=0.9)
batches = [(torch.randn(20, 12), torch.randint(3, (20,))) for _ in range(12)]
for epoch in range(6):
    net.train()
    for x, y in batches:
        opt.zero_grad()
        F.cross_entropy(net(x), y).backward()
        opt.step()
    print(epoch, accuracy(net, batches))
