# a batch of one sample: [1, 1] and [1] compare one number with one number
import torch
import torch.nn.functional as F
from torch import nn

torch.manual_seed(0)
import warnings

warnings.simplefilter("ignore")
model = nn.Linear(8, 1)
optimizer = torch.optim.SGD(model.parameters(), lr=1e-2)
for _ in range(16):
    x = torch.randn(1, 8)
    loss = F.mse_loss(model(x), x[:, 0])
    optimizer.zero_grad()
    loss.backward()
    optimizer.step()
