# torch_geometric: node classification; training and evaluation see the same graph, under different masks
import torch
import torch.nn.functional as F
from reproducible import print_digest, seed_everything
from torch_geometric.nn import GCNConv


class Network(torch.nn.Module):
    def __init__(self):
        super().__init__()
        self.first, self.second = GCNConv(16, 16), GCNConv(16, 4)

    def forward(self, x, edges):
        return self.second(F.dropout(self.first(x, edges).relu(), 0.5, self.training), edges)


seed_everything()
x, edges, y = torch.randn(60, 16), torch.randint(0, 60, (2, 200)), torch.randint(0, 4, (60,))
train_mask = torch.arange(60) < 30
model = Network()
optimizer = torch.optim.Adam(model.parameters(), 0.01, weight_decay=5e-4)
for _ in range(25):
    model.train()
    optimizer.zero_grad()
    F.cross_entropy(model(x, edges)[train_mask], y[train_mask]).backward()
    optimizer.step()
    model.eval()
    with torch.no_grad():
        (model(x, edges).argmax(1)[~train_mask] == y[~train_mask]).float().mean()
print_digest(model)
