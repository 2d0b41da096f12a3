# the trained parameters are kept without a copy while the average is evaluated | W22 fault
import copy
import torch
import torch.nn.functional as F
from torch import nn


from torch.optim.swa_utils import AveragedModel, get_ema_multi_avg_fn

torch.manual_seed(9)
model = nn.Sequential(nn.Linear(6, 12), nn.ReLU(), nn.Linear(12, 3))
ema = AveragedModel(model, multi_avg_fn=get_ema_multi_avg_fn(0.8))
optimizer = torch.optim.AdamW(model.parameters(), lr=1e-2)
held_out = torch.randn(32, 6)
for epoch in range(4):
    for _ in range(8):
        x = torch.randn(16, 6)
        optimizer.zero_grad()
        F.cross_entropy(model(x), x[:, :3].argmax(1)).backward()
        optimizer.step()
        ema.update_parameters(model)
    backup = {name: tensor for name, tensor in model.state_dict().items()}
    model.load_state_dict(ema.module.state_dict())
    with torch.no_grad():
        print(F.cross_entropy(model(held_out), held_out[:, :3].argmax(1)).item())
    model.load_state_dict(backup)
