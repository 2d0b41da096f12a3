# the flag is set on every child of the model, later in the run, after a deepcopy | W29 warning
import torch
import torch.nn.functional as F
from torch import nn


import copy

torch.manual_seed(9)
net = copy.deepcopy(nn.ModuleDict({"body": nn.Sequential(nn.Linear(8, 16), nn.Tanh()), "head": nn.Linear(16, 3)}))

def forward(x):
    return net["head"](net["body"](x))

optimizer = torch.optim.NAdam(net.parameters(), lr=1e-2)
for step in range(40):
    if step == 10:
        for child in net["body"].children():
            child.requires_grad = False
    x = torch.randn(16, 8)
    optimizer.zero_grad()
    F.cross_entropy(forward(x), x[:, :3].argmax(1)).backward()
    optimizer.step()
