# torch_geometric: batches of graphs; the accuracy on both sets is measured at every epoch
import torch
import torch.nn.functional as F
from reproducible import print_digest, seed_everything
from torch_geometric.data import Data
from torch_geometric.loader import DataLoader
from torch_geometric.nn import MLP, GINConv, global_add_pool


class Network(torch.nn.Module):
    def __init__(self):
        super().__init__()
        self.convolution = GINConv(MLP([16, 16, 16]))
        self.head = MLP([16, 16, 2], norm=None, dropout=0.3)

    def forward(self, x, edges, batch):
        return self.head(global_add_pool(self.convolution(x, edges).relu(), batch))


def accuracy(loader):
    model.eval()
    with torch.no_grad():
        right = sum((model(one.x, one.edge_index, one.batch).argmax(1) == one.y).sum().item() for one in loader)
    return right / len(loader.dataset)


seed_everything()
graphs = [
    Data(x=torch.randn(8, 16), edge_index=torch.randint(0, 8, (2, 20)), y=torch.randint(0, 2, (1,))) for _ in range(80)
]
train_loader, test_loader = DataLoader(graphs[:64], 16, shuffle=True), DataLoader(graphs[64:], 16)
model = Network()
optimizer = torch.optim.Adam(model.parameters(), 0.01)
for _ in range(4):
    model.train()
    for batch in train_loader:
        optimizer.zero_grad()
        F.cross_entropy(model(batch.x, batch.edge_index, batch.batch), batch.y).backward()
        optimizer.step()
    train_accuracy, test_accuracy = accuracy(train_loader), accuracy(test_loader)
print_digest(model)
