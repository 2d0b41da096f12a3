# a graph network: the nodes of the validation are neighbors of those it trains on; right: quiet: nothing above a note
import torch
from torch import nn
from torch.nn import functional as F

torch.manual_seed(0)
class Convolution(nn.Module):
    def __init__(self, inputs, outputs):
        super().__init__()
        self.linear = nn.Linear(inputs, outputs)

    def forward(self, x, edges):
        return self.linear(x + torch.zeros_like(x).index_add_(0, edges[1], x[edges[0]]))


class Net(nn.Module):
    def __init__(self):
        super().__init__()
        self.a, self.b = Convolution(8, 16), Convolution(16, 3)

    def forward(self, x, edges):
        return self.b(self.a(x, edges).relu(), edges)


x, y, order = torch.randn(300, 8), torch.randint(3, (300,)), torch.randperm(300)


def loader(nodes):
    for own in nodes.split(20):
        nearby = torch.cat([own, torch.randint(0, 300, (40,))])
        yield x[nearby], torch.stack([torch.arange(20, 60), torch.arange(40) % 20]), y[own]


model = Net()
optimizer = torch.optim.Adam(model.parameters(), 1e-2)
train_nodes, val_nodes = order[:200], order[200:]
for epoch in range(4):
    model.train()
    for features, edges, labels in loader(train_nodes):
        optimizer.zero_grad()
        F.cross_entropy(model(features, edges)[:20], labels).backward()
        optimizer.step()
    model.eval()
    with torch.no_grad():
        val_loss = sum(F.cross_entropy(model(features, edges)[:20], labels) for features, edges, labels in loader(val_nodes))
