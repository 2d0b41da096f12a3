# Monte Carlo dropout: passes over a whole loader, with training after them; right: quiet
import torch
import torch.nn.functional as F
from torch import nn
from torch.utils.data import DataLoader, TensorDataset

torch.manual_seed(0)
model = nn.Sequential(nn.Linear(8, 32), nn.ReLU(), nn.Dropout(0.3), nn.Linear(32, 3))
optimizer = torch.optim.Adam(model.parameters(), 1e-3)
train = TensorDataset(torch.randn(96, 8), torch.randint(3, (96,)))
pool = DataLoader(TensorDataset(torch.randn(60, 8)), batch_size=12)
for _ in range(3):
    model.train()
    for x, y in DataLoader(train, batch_size=16, shuffle=True):
        optimizer.zero_grad()
        F.cross_entropy(model(x), y).backward()
        optimizer.step()
    with torch.no_grad():
        draws = torch.stack([torch.cat([model(x).softmax(1) for (x,) in pool]) for _ in range(8)])
    uncertainty = draws.var(0).sum(1)
    chosen = uncertainty.topk(5).indices
