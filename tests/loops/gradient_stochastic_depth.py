# layers are dropped at random, the last one for the rest of the run; right: quiet: nothing above a note
import torch
from torch import nn
from torch.nn import functional as F

torch.manual_seed(0)
class Deep(nn.Module):
    def __init__(self):
        super().__init__()
        self.layers, self.out = nn.ModuleList(nn.Linear(8, 8) for _ in range(6)), nn.Linear(8, 2)

    def forward(self, x, step):
        for number, layer in enumerate(self.layers):
            if torch.rand(()) > 0.3 and not (number == 5 and step > 20):
                x = x + layer(x).relu()
        return self.out(x)


model = Deep()
optimizer = torch.optim.SGD(model.parameters(), 1e-2, momentum=0.9)
for step in range(50):
    x = torch.randn(16, 8)
    loss = F.cross_entropy(model(x, step), (x[:, 0] > 0).long())
    optimizer.zero_grad()
    loss.backward()
    optimizer.step()
