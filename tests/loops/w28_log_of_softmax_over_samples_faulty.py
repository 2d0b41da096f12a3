# the logarithm of a softmax over dim 0, into NLLLoss
import torch
import torch.nn.functional as F
from torch import nn

torch.manual_seed(0)
model = nn.Linear(8, 4)
criterion = nn.NLLLoss(weight=torch.ones(4))
optimizer = torch.optim.Adam(model.parameters(), lr=1e-2)
for _ in range(20):
    x = torch.randn(24, 8)
    y = x[:, :4].argmax(1)
    p = torch.softmax(model(x), 0)
    loss = criterion(torch.log(p), y)
    optimizer.zero_grad()
    loss.backward()
    optimizer.step()
