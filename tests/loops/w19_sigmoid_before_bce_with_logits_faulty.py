# the model ends in a sigmoid, and BCEWithLogitsLoss applies another; the output is squeezed between
import torch
import torch.nn.functional as F
from torch import nn

torch.manual_seed(0)
class Scorer(nn.Module):
    def __init__(self):
        super().__init__()
        self.first, self.last = nn.Linear(9, 12), nn.Linear(12, 1)

    def forward(self, x):
        return self.last(self.first(x).relu()).sigmoid().squeeze(-1)


model, criterion = Scorer(), nn.BCEWithLogitsLoss(pos_weight=torch.tensor(2.0))
optimizer = torch.optim.RMSprop(model.parameters(), lr=1e-2)
for _ in range(20):
    x = torch.randn(18, 9)
    y = (x[:, 0] > 0.5).float()
    scores = model(x)
    loss = criterion(scores, y)
    optimizer.zero_grad()
    loss.backward()
    optimizer.step()
