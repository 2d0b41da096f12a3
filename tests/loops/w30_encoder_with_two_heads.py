# healthy: an encoder collects the gradients of two heads, whose optimizers step first
import torch
import torch.nn.functional as F
from torch import nn


torch.manual_seed(0)
encoder, heads = nn.Sequential(nn.Linear(6, 16), nn.ReLU()), [nn.Linear(16, 2), nn.Linear(16, 1)]
encoder_optimizer = torch.optim.Adam(encoder.parameters(), lr=1e-3)
optimizers = [torch.optim.Adam(head.parameters(), lr=1e-3) for head in heads]
for _ in range(20):
    x = torch.randn(32, 6)
    F.cross_entropy(heads[0](encoder(x)), (x[:, 0] > 0).long()).backward()
    optimizers[0].step()
    optimizers[0].zero_grad()
    F.mse_loss(heads[1](encoder(x)), x[:, :1]).backward()
    optimizers[1].step()
    optimizers[1].zero_grad()
    encoder_optimizer.step()
    encoder_optimizer.zero_grad()
