# Accelerate, windows that span epochs | right: nothing above a note
import torch
from torch import nn
from accelerate import Accelerator
from accelerate.utils import GradientAccumulationPlugin
torch.manual_seed(0)
a = Accelerator(cpu=True, gradient_accumulation_plugin=GradientAccumulationPlugin(num_steps=4, sync_with_dataloader=False))
m = nn.Linear(20, 1); o = torch.optim.SGD(m.parameters(), 1e-2)
d = torch.utils.data.TensorDataset(torch.randn(352, 20), torch.randn(352, 1))
m, o, dl = a.prepare(m, o, torch.utils.data.DataLoader(d, 32))
for _ in range(4):
    for x, y in dl:
        with a.accumulate(m):
            a.backward(nn.functional.mse_loss(m(x), y)); o.step(); o.zero_grad()
