# healthy: an encoder layer is evaluated by its fast path, which the watch leaves alone
import torch
import torch.nn.functional as F
from torch import nn

torch.manual_seed(12)
layer = nn.TransformerEncoderLayer(8, 2, 16, dropout=0.1, batch_first=True)
net = nn.Sequential(nn.Unflatten(1, (4, 8)), layer, nn.Flatten(), nn.Linear(32, 3))
optimizer = torch.optim.AdamW(net.parameters(), lr=1e-3)
for epoch in range(3):
    net.train()
    for _ in range(8):
        x = torch.randn(16, 32)
        optimizer.zero_grad()
        F.cross_entropy(net(x), x[:, :3].argmax(1)).backward()
        optimizer.step()
    net.eval()
    with torch.no_grad():
        print(net(torch.randn(16, 32)).mean().item())
