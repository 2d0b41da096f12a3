# opacus: BatchMemoryManager splits batches; its optimizer skips the step and the clearing between the parts of a batch
import torch
from opacus import PrivacyEngine
from opacus.utils.batch_memory_manager import BatchMemoryManager
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
    with BatchMemoryManager(data_loader=loader, max_physical_batch_size=8, optimizer=optimizer) as parts:
        for x, y in parts:
            optimizer.zero_grad()
            criterion(model(x), y).backward()
            optimizer.step()
print_digest(model)
