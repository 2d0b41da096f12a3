# the validation set is a slice of the training set (an index bug), in batches of another size; right: W16 fault at the evaluation
import torch
from torch import nn
from torch.nn import functional as F

torch.manual_seed(0)
net = nn.Sequential(nn.Linear(10, 16), nn.ReLU(), nn.Linear(16, 2))
opt = torch.optim.Adam(net.parameters(), lr=1e-2)

X = torch.randn(300, 10)
y = (X[:, 0] > 0).long()
train_x, train_y = X[:260], y[:260]
val_x, val_y = X[180:260], y[180:260]  # should begin at 260
for epoch in range(4):
    net.train()
    for i in torch.randperm(260).split(20):
        loss = F.cross_entropy(net(train_x[i]), train_y[i])
        opt.zero_grad()
        loss.backward()
        opt.step()
    net.eval()
    with torch.no_grad():
        for i in range(0, 80, 16):
            val_loss = F.cross_entropy(net(val_x[i : i + 16]), val_y[i : i + 16])
