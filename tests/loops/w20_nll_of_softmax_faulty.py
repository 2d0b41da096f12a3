# nll_loss gets a softmax, through reshape, with class weights and sums
import torch
import torch.nn.functional as F
from torch import nn

torch.manual_seed(0)
model = nn.Sequential(nn.Linear(8, 16), nn.ReLU(), nn.Linear(16, 3))
optimizer = torch.optim.SGD(model.parameters(), lr=0.05)
for _ in range(20):
    x = torch.randn(10, 6, 8)
    y = x[..., :3].argmax(-1)
    output = torch.nn.functional.softmax(model(x), dim=2)
    loss = F.nll_loss(output.reshape(-1, 3), y.reshape(-1), weight=torch.tensor([1.0, 1.0, 2.0]))
    optimizer.zero_grad()
    loss.backward()
    optimizer.step()
