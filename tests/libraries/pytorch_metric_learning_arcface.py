# pytorch-metric-learning: ArcFace, a loss with weights of its own and an optimizer for them
import torch
from pytorch_metric_learning.losses import ArcFaceLoss
from reproducible import print_digest, seed_everything
from torch import nn

seed_everything()
model = nn.Sequential(nn.Linear(20, 32), nn.ReLU(), nn.Linear(32, 8))
criterion = ArcFaceLoss(5, 8)
optimizer = torch.optim.Adam(model.parameters(), 1e-3)
of_criterion = torch.optim.SGD(criterion.parameters(), 0.01)
for _ in range(30):
    optimizer.zero_grad()
    of_criterion.zero_grad()
    criterion(model(torch.randn(32, 20)), torch.randint(0, 5, (32,))).backward()
    optimizer.step()
    of_criterion.step()
print_digest(model, criterion)
