# accelerate: a short last window of an epoch is divided by the full count
import torch
from accelerate import Accelerator
from reproducible import print_digest, seed_everything
from torch import nn
from torch.utils.data import DataLoader, TensorDataset

seed_everything()
accelerator = Accelerator(cpu=True, gradient_accumulation_steps=4)
model = nn.Sequential(nn.Linear(20, 64), nn.GELU(), nn.Dropout(0.1), nn.Linear(64, 5))
optimizer = torch.optim.AdamW(model.parameters(), 1e-3)
schedule = torch.optim.lr_scheduler.LinearLR(optimizer, 1.0, 0.1, 30)
data = TensorDataset(torch.randn(300, 20), torch.randint(0, 5, (300,)))
loader = DataLoader(data, 20, shuffle=True)  # 15 batches
model, optimizer, loader, schedule = accelerator.prepare(model, optimizer, loader, schedule)
for _ in range(5):
    for x, y in loader:
        with accelerator.accumulate(model):
            loss = nn.functional.cross_entropy(model(x), y)
            accelerator.backward(loss)
            if accelerator.sync_gradients:
                accelerator.clip_grad_norm_(model.parameters(), 1.0)
            optimizer.step()
            schedule.step()
            optimizer.zero_grad()
print_digest(model)
