# healthy: an encoder is trained by the loss of a head, which steps first, and by one of its own
import torch
import torch.nn.functional as F
from torch import nn


torch.manual_seed(1)
encoder, head = nn.Sequential(nn.Linear(6, 16), nn.ReLU()), nn.Linear(16, 2)
encoder_optimizer = torch.optim.SGD(encoder.parameters(), lr=0.05)
head_optimizer = torch.optim.SGD(head.parameters(), lr=0.05)
for _ in range(20):
    x = torch.randn(32, 6)
    encoder_optimizer.zero_grad()
    head_optimizer.zero_grad()
    F.cross_entropy(head(encoder(x)), (x[:, 0] > 0).long()).backward()
    head_optimizer.step()
    (0.1 * encoder(x + 0.1).sub(encoder(x)).square().mean()).backward()
    encoder_optimizer.step()
