# Monte Carlo dropout: each sample stands eight times in one batch, in a function that sets train() itself; right: quiet
import torch
import torch.nn.functional as F
from torch import nn

torch.manual_seed(0)
model = nn.Sequential(nn.Linear(8, 32), nn.ReLU(), nn.Dropout(0.3), nn.Linear(32, 3))
optimizer = torch.optim.Adam(model.parameters(), 1e-3)
for _ in range(30):
    x = torch.randn(16, 8)
    optimizer.zero_grad()
    F.cross_entropy(model(x), x[:, :3].argmax(1)).backward()
    optimizer.step()


@torch.inference_mode()
def uncertainty(batches, draws=8):
    model.train()
    return [model(x.repeat_interleave(draws, 0)).view(len(x), draws, -1).var(1).mean() for x in batches]


print(torch.stack(uncertainty(torch.randn(10, 16, 8))).mean())
