# a backbone is unfrozen halfway, and its parameters are then added to the optimizer | quiet
import torch
from torch import nn

torch.manual_seed(0)
backbone = nn.Sequential(nn.Linear(16, 32), nn.ReLU())
model = nn.Sequential(backbone, nn.Linear(32, 5))
backbone.requires_grad_(False)
optimizer = torch.optim.Adam(filter(lambda p: p.requires_grad, model.parameters()), lr=1e-3)
x = torch.randn(640, 16)
y = x[:, :5].argmax(1)
for epoch in range(4):
    if epoch == 2:
        backbone.requires_grad_(True)
        optimizer.add_param_group({"params": backbone.parameters(), "lr": 1e-4})
    model.train()
    for chosen in torch.randperm(640).split(32):
        loss = nn.functional.cross_entropy(model(x[chosen]), y[chosen])
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
    model.eval()
