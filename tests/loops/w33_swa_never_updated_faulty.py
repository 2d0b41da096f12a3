# the averaged model of swa_utils is evaluated, but never updated | W33 warning
import copy
import torch
import torch.nn.functional as F
from torch import nn


from torch.optim.swa_utils import AveragedModel, get_ema_multi_avg_fn

def evaluate(model, x, y):
    model.eval()
    with torch.no_grad():
        return F.cross_entropy(model(x), y).item()

torch.manual_seed(7)
net = nn.Sequential(nn.Linear(10, 16), nn.ReLU(), nn.Linear(16, 2))
optimizer = torch.optim.Adam(net.parameters(), lr=1e-2)
held_out = torch.randn(48, 10)
goal = (held_out[:, 0] > 0).long()

averaged = AveragedModel(net, multi_avg_fn=get_ema_multi_avg_fn(0.9))
for epoch in range(4):
    net.train()
    for _ in range(12):
        x = torch.randn(16, 10)
        optimizer.zero_grad()
        F.cross_entropy(net(x), (x[:, 0] > 0).long()).backward()
        optimizer.step()

    print(evaluate(net, held_out, goal), evaluate(averaged, held_out, goal))
