# healthy: the model is compared with itself before the training, after every epoch
import copy
import torch
import torch.nn.functional as F
from torch import nn

torch.manual_seed(1)
net = nn.Sequential(nn.Linear(10, 16), nn.ReLU(), nn.Linear(16, 2))
optimizer = torch.optim.Adam(net.parameters(), lr=1e-2)
held_out = torch.randn(48, 10)
goal = (held_out[:, 0] > 0).long()

reference = copy.deepcopy(net)

def loss_of(model):
    with torch.no_grad():
        return F.cross_entropy(model(held_out), goal).item()

for epoch in range(4):
    for _ in range(10):
        x = torch.randn(16, 10)
        optimizer.zero_grad()
        F.cross_entropy(net(x), (x[:, 0] > 0).long()).backward()
        optimizer.step()

    print(loss_of(net), loss_of(reference))
