# Fabric does not divide the loss | right: W01, advice in Fabric's terms
import torch
from torch import nn
from lightning.fabric import Fabric
torch.manual_seed(0)
f = Fabric(accelerator="cpu", devices=1)
net = nn.Linear(20, 1); m, o = f.setup(net, torch.optim.SGD(net.parameters(), 1e-2))
for i in range(48):
    loss = nn.functional.mse_loss(m(torch.randn(8, 20)), torch.randn(8, 1))
    f.backward(loss)
    if i % 4 == 3: o.step(); o.zero_grad()
