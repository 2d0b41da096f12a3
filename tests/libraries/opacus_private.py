# opacus: differentially private SGD: its optimizer clips and adds noise, and batches have random sizes
import torch
from opacus import PrivacyEngine
from reproducible import print_digest, seed_everything
from torch import nn
from torch.utils.data import DataLoader, TensorDataset

seed_everything()
model = nn.Sequential(nn.Linear(20, 32), nn.ReLU(), nn.Linear(32, 5))
optimizer = torch.optim.SGD(model.parameters(), 0.1)
loader = DataLoader(TensorDataset(torch.randn(256, 20), torch.randint(0, 5, (256,))), 32)
model, optimizer, loader = PrivacyEngine().make_private(
    module=model, optimizer=optimizer, data_loader=loader, noise_multiplier=1.0, max_grad_norm=1.0
)
criterion = nn.CrossEntropyLoss()
for _ in range(3):
    model.train()
    for x, y in loader:
        optimizer.zero_grad()
        criterion(model(x), y).backward()
        optimizer.step()
    model.eval()
    with torch.no_grad():
        model(torch.randn(16, 20))
print_digest(model)
