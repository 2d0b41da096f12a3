# a normalization in numpy between two networks; right: W07 fault
import torch
from torch import nn
from torch.nn import functional as F

torch.manual_seed(0)
import numpy as np

encoder, decoder = nn.GRU(6, 12, batch_first=True), nn.Linear(12, 6)
optimizer = torch.optim.Adam([*encoder.parameters(), *decoder.parameters()], 1e-2)
for _ in range(30):
    x = torch.randn(4, 9, 6)
    hidden, _ = encoder(x)
    array = np.ascontiguousarray(hidden.detach().numpy())
    out = decoder(torch.from_numpy(array))
    loss = F.mse_loss(out, x)
    optimizer.zero_grad()
    loss.backward()
    optimizer.step()
