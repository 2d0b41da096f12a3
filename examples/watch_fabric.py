"""Watch a loop of Fabric: two lines, ``with watch() as w:`` around it and ``print(w.report())`` after it."""

import torch
from lightning.fabric import Fabric
from torch import nn

from covlab.watch import watch

torch.manual_seed(0)
fabric = Fabric(accelerator="cpu", devices=1)
data = torch.utils.data.TensorDataset(torch.randn(256, 4), torch.randint(0, 2, (256,)))
loader = fabric.setup_dataloaders(torch.utils.data.DataLoader(data, batch_size=8, shuffle=True))
network = nn.Linear(4, 2)
model, optimizer = fabric.setup(network, torch.optim.AdamW(network.parameters()))

with watch() as w:
    for _ in range(2):
        for number, (inputs, targets) in enumerate(loader, 1):
            with fabric.no_backward_sync(model, enabled=number % 4 != 0):
                fabric.backward(nn.functional.cross_entropy(model(inputs), targets) / 4)
            if number % 4 == 0:
                optimizer.step()
                optimizer.zero_grad()
print(w.report())
