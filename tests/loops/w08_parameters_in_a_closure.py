# a function keeps its own parameters, which nobody passes to the optimizer | fault
import torch
import torch.nn.functional as F
from torch import nn

torch.manual_seed(0)
class Net(nn.Module):
    def __init__(self):
        super().__init__()
        scale, shift = nn.Parameter(torch.ones(16)), nn.Parameter(torch.zeros(16))
        self.body, self.head = nn.Linear(8, 16), nn.Linear(16, 4)
        self.affine = lambda x: x * scale + shift

    def forward(self, x):
        return self.head(torch.relu(self.affine(self.body(x))))


model = Net()
optimizer = torch.optim.SGD(model.parameters(), lr=0.05)
for step in range(30):
    x = torch.randn(6, 8)
    optimizer.zero_grad()
    F.cross_entropy(model(x), x[:, :4].argmax(1)).backward()
    optimizer.step()
