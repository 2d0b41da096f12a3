# the second network gets the first one's argmax; right: W07 fault
import torch
from torch import nn
from torch.nn import functional as F

torch.manual_seed(0)
class Pipeline(nn.Module):
    def __init__(self):
        super().__init__()
        self.choose = nn.Sequential(nn.Linear(10, 16), nn.ReLU(), nn.Linear(16, 5))
        self.table, self.head = nn.Embedding(5, 8), nn.Linear(8, 2)

    def forward(self, x):
        code = self.choose(x).argmax(-1)
        return self.head(self.table(code))


model = Pipeline()
optimizer = torch.optim.AdamW(model.parameters(), 1e-3)
for _ in range(30):
    x = torch.randn(16, 10)
    loss = F.cross_entropy(model(x), (x[:, 0] > 0).long())
    optimizer.zero_grad()
    loss.backward()
    optimizer.step()
