# a chain of parameters of two modules is used up, under accumulation and autocast | W26 fault
import itertools
import torch
import torch.nn.functional as F
from torch import nn
from torch.nn.utils import clip_grad_norm_ as clip

torch.manual_seed(11)
encoder, decoder = nn.Linear(8, 16), nn.Linear(16, 8)
parameters = itertools.chain(encoder.parameters(), decoder.parameters())
optimizer = torch.optim.SGD([{"params": encoder.parameters()}, {"params": decoder.parameters(), "lr": 0.01}], lr=0.1)
for _ in range(10):
    for _ in range(3):
        x = torch.randn(8, 8)
        with torch.autocast("cpu", dtype=torch.bfloat16):
            loss = F.mse_loss(decoder(encoder(x)), x) / 3
        loss.backward()
    clip([p for p in parameters if p.requires_grad], max_norm=0.05, foreach=True)
    optimizer.step()
    optimizer.zero_grad()
