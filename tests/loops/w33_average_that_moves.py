# healthy: swa_utils and a hand-made average are updated, and evaluated after every epoch
import copy
import torch
import torch.nn.functional as F
from torch import nn


from torch.optim.swa_utils import AveragedModel

torch.manual_seed(3)
net = nn.Sequential(nn.Linear(10, 16), nn.ReLU(), nn.Linear(16, 2))
optimizer = torch.optim.Adam(net.parameters(), lr=1e-2)
held_out = torch.randn(48, 10)
goal = (held_out[:, 0] > 0).long()

swa, shadow = AveragedModel(net), copy.deepcopy(net)
for epoch in range(4):
    for _ in range(10):
        x = torch.randn(16, 10)
        optimizer.zero_grad()
        F.cross_entropy(net(x), (x[:, 0] > 0).long()).backward()
        optimizer.step()

        swa.update_parameters(net)
        with torch.no_grad():
            torch._foreach_lerp_(list(shadow.parameters()), list(net.parameters()), 0.01)
    with torch.no_grad():
        print(F.cross_entropy(swa(held_out), goal).item(), F.cross_entropy(shadow(held_out), goal).item())
