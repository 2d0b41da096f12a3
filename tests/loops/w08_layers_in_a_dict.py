# branches in a plain dict are not registered | fault
import torch
import torch.nn.functional as F
from torch import nn

torch.manual_seed(0)
class Net(nn.Module):
    def __init__(self):
        super().__init__()
        self.branches = {"wide": nn.Linear(8, 16), "narrow": nn.Linear(8, 16)}
        self.head = nn.Linear(16, 4)

    def forward(self, x):
        return self.head(sum(torch.relu(branch(x)) for branch in self.branches.values()))


model = Net()
optimizer = torch.optim.AdamW(model.parameters(), lr=1e-2)
for step in range(30):
    x = torch.randn(6, 8)
    optimizer.zero_grad()
    F.cross_entropy(model(x), x[:, :4].argmax(1)).backward()
    optimizer.step()
