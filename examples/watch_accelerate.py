"""Watch a loop of Accelerate: two lines, ``with watch() as w:`` around it and ``print(w.report())`` after it."""

import torch
from accelerate import Accelerator
from torch import nn

from covlab.watch import watch

torch.manual_seed(0)
accelerator = Accelerator(gradient_accumulation_steps=4, cpu=True)
data = torch.utils.data.TensorDataset(torch.randn(256, 4), torch.randint(0, 2, (256,)))
loader = torch.utils.data.DataLoader(data, batch_size=8, shuffle=True)
network = nn.Linear(4, 2)
model, optimizer, loader = accelerator.prepare(network, torch.optim.AdamW(network.parameters()), loader)

with watch() as w:
    for _ in range(2):
        for inputs, targets in loader:
            with accelerator.accumulate(model):
                accelerator.backward(nn.functional.cross_entropy(model(inputs), targets))
                optimizer.step()
                optimizer.zero_grad()
print(w.report())
