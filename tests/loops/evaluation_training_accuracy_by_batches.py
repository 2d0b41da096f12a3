# training accuracy on the first batches of the training loader, on purpose; right: quiet: nothing above a note
import torch
from torch import nn
from torch.nn import functional as F

torch.manual_seed(0)
net = nn.Sequential(nn.Linear(10, 16), nn.ReLU(), nn.Linear(16, 2))
opt = torch.optim.Adam(net.parameters(), lr=1e-2)

from torch.utils.data import DataLoader, TensorDataset
X = torch.randn(320, 10)
data = TensorDataset(X, (X[:, 0] > 0).long())
loader = DataLoader(data, 32, shuffle=True)
fixed = DataLoader(data, 32)
for epoch in range(5):
    net.train()
    for x, y in loader:
        loss = F.cross_entropy(net(x), y)
        opt.zero_grad()
        loss.backward()
        opt.step()
    net.eval()
    correct = total = 0
    with torch.no_grad():
        for number, (x, y) in enumerate(fixed):
            if number == 4:
                break
            correct += (net(x).argmax(1) == y).sum().item()
            total += len(y)
    print("training accuracy", correct / total)
