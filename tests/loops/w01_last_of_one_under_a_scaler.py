# nine micro-batches in windows of two, the last alone and still halved; float16 | fault
import torch
import torch.nn.functional as F
from torch import nn

torch.manual_seed(0)
model = nn.Sequential(nn.Linear(8, 16), nn.ReLU(), nn.Linear(16, 4))

optimizer = torch.optim.SGD(model.parameters(), lr=0.05, momentum=0.9)
scaler = torch.amp.GradScaler("cpu", init_scale=2.0**8)
for epoch in range(4):
    for number in range(1, 10):
        x = torch.randn(6, 8)
        with torch.autocast("cpu", torch.float16):
            loss = F.cross_entropy(model(x), x[:, :4].argmax(1)) / 2
        scaler.scale(loss).backward()
        if number % 2 == 0 or number == 9:
            scaler.step(optimizer)
            scaler.update()
            model.zero_grad(set_to_none=False)
