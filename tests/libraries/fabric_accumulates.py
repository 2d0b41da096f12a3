# lightning: Fabric in bfloat16, a loss that the loop divides, and a short last window that it divides by its own length
import torch
from lightning.fabric import Fabric
from reproducible import print_digest, seed_everything
from torch import nn
from torch.utils.data import DataLoader, TensorDataset

WINDOW = 4

seed_everything()
fabric = Fabric(accelerator="cpu", devices=1, precision="bf16-mixed")
fabric.launch()
model = nn.Sequential(nn.Linear(20, 64), nn.GELU(), nn.Linear(64, 5))
model, optimizer = fabric.setup(model, torch.optim.AdamW(model.parameters(), 1e-3))
data = TensorDataset(torch.randn(280, 20), torch.randint(0, 5, (280,)))  # 14 batches
loader = fabric.setup_dataloaders(DataLoader(data, 20, shuffle=True))
for _ in range(4):
    for number, (x, y) in enumerate(loader):
        window = min(WINDOW, len(loader) - number // WINDOW * WINDOW)
        ends = number % WINDOW == window - 1
        with fabric.no_backward_sync(model, enabled=not ends):
            fabric.backward(nn.functional.cross_entropy(model(x), y) / window)
        if ends:
            fabric.clip_gradients(model, optimizer, max_norm=1.0)
            optimizer.step()
            optimizer.zero_grad()
print_digest(model)
