# a frozen judge in evaluation mode, kept in a list so that it is not trained | nothing above a note
import torch
import torch.nn.functional as F
from torch import nn

torch.manual_seed(0)
class Net(nn.Module):
    def __init__(self):
        super().__init__()
        self.body = nn.Sequential(nn.Linear(8, 16), nn.ReLU(), nn.Linear(16, 8))
        self.judge = [nn.Sequential(nn.Linear(8, 16), nn.Tanh()).eval()]

    def forward(self, x):
        out = self.body(x)
        return (self.judge[0](out) - self.judge[0](x)).square().mean()


model = Net()
optimizer = torch.optim.Adam(model.parameters(), lr=1e-2)
for step in range(30):
    optimizer.zero_grad()
    model(torch.randn(6, 8)).backward()
    optimizer.step()
