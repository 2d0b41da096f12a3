# one group of the optimizer is frozen, and what should train is in none | fault
import torch
import torch.nn.functional as F
from torch import nn

torch.manual_seed(0)
class Net(nn.Module):
    def __init__(self):
        super().__init__()
        self.body, self.neck, self.head = nn.Linear(8, 16), nn.Linear(16, 16), nn.Linear(16, 4)

    def forward(self, x):
        return self.head(torch.relu(self.neck(torch.relu(self.body(x)))))


model = Net()
for parameter in model.head.parameters():
    parameter.requires_grad = False
optimizer = torch.optim.AdamW([{"params": model.head.parameters()}, {"params": model.neck.parameters(), "lr": 1e-3}])
for step in range(30):
    x = torch.randn(6, 8)
    optimizer.zero_grad()
    F.cross_entropy(model(x), x[:, :4].argmax(1)).backward()
    optimizer.step()
