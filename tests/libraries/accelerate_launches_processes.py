# accelerate: debug_launcher trains in two processes of its own; the one that is watched trains nothing
import torch
from accelerate import Accelerator, debug_launcher
from reproducible import print_digest, seed_everything
from torch import nn
from torch.utils.data import DataLoader, TensorDataset


def train():
    seed_everything()
    accelerator = Accelerator(cpu=True)
    model = nn.Sequential(nn.Linear(20, 32), nn.ReLU(), nn.Linear(32, 5))
    optimizer = torch.optim.AdamW(model.parameters(), 1e-3)
    data = TensorDataset(torch.randn(160, 20), torch.randint(0, 5, (160,)))
    model, optimizer, loader = accelerator.prepare(model, optimizer, DataLoader(data, 20))
    for x, y in loader:
        optimizer.zero_grad()
        accelerator.backward(nn.functional.cross_entropy(model(x), y))
        optimizer.step()
    if accelerator.is_main_process:
        print_digest(accelerator.unwrap_model(model))


debug_launcher(train, num_processes=2)
