# healthy: a list of adapters is clipped that this configuration does not have
import torch
import torch.nn.functional as F
from torch import nn

torch.manual_seed(1)
model = nn.Sequential(nn.Linear(5, 20), nn.GELU(), nn.Linear(20, 3))
adapters = [p for n, p in model.named_parameters() if "lora" in n]
others = [p for n, p in model.named_parameters() if "lora" not in n]
opt = torch.optim.AdamW(others, lr=1e-3)
for _ in range(25):
    x = torch.randn(12, 5)
    loss = F.cross_entropy(model(x), x[:, :3].argmax(1))
    opt.zero_grad()
    loss.backward()
    nn.utils.clip_grad_norm_(adapters, 0.1)
    nn.utils.clip_grad_norm_(others, 1.0)
    opt.step()
