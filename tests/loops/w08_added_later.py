# the backbone joins the optimizer after twelve steps | nothing
import torch
import torch.nn.functional as F
from torch import nn

torch.manual_seed(0)
model = nn.Sequential(nn.Linear(8, 16), nn.ReLU(), nn.Linear(16, 4))

optimizer = torch.optim.SGD(model[2].parameters(), lr=0.05)
for step in range(40):
    if step == 12:
        optimizer.add_param_group({"params": model[0].parameters(), "lr": 0.01})
    x = torch.randn(6, 8)
    optimizer.zero_grad()
    F.cross_entropy(model(x), x[:, :4].argmax(1)).backward()
    optimizer.step()
