# energy distance between samples of a generator [B, 1] and data [B]: all pairs, on purpose
import torch
import torch.nn.functional as F
from torch import nn

torch.manual_seed(0)
generator = nn.Sequential(nn.Linear(4, 16), nn.ReLU(), nn.Linear(16, 1))
optimizer = torch.optim.Adam(generator.parameters(), lr=1e-2)
for _ in range(16):
    made, real = generator(torch.randn(20, 4)), torch.randn(20) * 2 + 1
    loss = 2 * (made - real).abs().mean() - (made - made.T).abs().mean()
    optimizer.zero_grad()
    loss.backward()
    optimizer.step()
