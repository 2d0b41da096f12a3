# one-hot inputs of 40 classes: every class is in both sets; right: quiet: nothing above a note
import torch
from torch import nn
from torch.nn import functional as F

torch.manual_seed(0)
classes = torch.randint(0, 40, (600,))
x, y = F.one_hot(classes, 40).float(), (classes % 3)
model = nn.Sequential(nn.Linear(40, 16), nn.ReLU(), nn.Linear(16, 3))
optimizer = torch.optim.Adam(model.parameters(), lr=1e-2)
for epoch in range(4):
    model.train()
    for i in torch.randperm(480).split(24):
        optimizer.zero_grad()
        F.cross_entropy(model(x[i]), y[i]).backward()
        optimizer.step()
    model.eval()
    with torch.no_grad():
        print("validation", sum((model(x[i]).argmax(1) == y[i]).sum() for i in torch.arange(480, 600).split(24)) / 120)
