# 50 % of the validation set are also in the training set, shuffled, by loaders; right: W16 fault at the evaluation
import torch
from torch import nn
from torch.nn import functional as F

torch.manual_seed(0)
from torch.utils.data import DataLoader, Subset, TensorDataset

X = torch.randn(340, 3, 6, 6)
data = TensorDataset(X, (X.mean((1, 2, 3)) > 0).long())
order = torch.randperm(340).tolist()
train_loader = DataLoader(Subset(data, order[:260]), batch_size=26, shuffle=True)
test_loader = DataLoader(Subset(data, order[220:300]), batch_size=10, shuffle=True)
model = nn.Sequential(nn.Conv2d(3, 8, 3), nn.BatchNorm2d(8), nn.ReLU(), nn.Flatten(), nn.Linear(128, 2))
optimizer = torch.optim.SGD(model.parameters(), lr=0.05)


def test():
    model.eval()
    correct = 0
    with torch.no_grad():
        for x, y in test_loader:
            correct += (model(x).argmax(1) == y).sum().item()
    return correct / 80


for epoch in range(4):
    model.train()
    running = 0.0
    for x, y in train_loader:
        optimizer.zero_grad()
        loss = F.cross_entropy(model(x), y)
        loss.backward()
        optimizer.step()
        running += loss.item()
    print(f"epoch {epoch} train loss {running:.3f} test accuracy {test():.2f}")
