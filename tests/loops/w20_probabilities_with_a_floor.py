# probabilities with a floor are turned into logarithms before kl_div, one rounds above 0
import torch
import torch.nn.functional as F
from torch import nn

torch.manual_seed(0)
model = nn.Linear(8, 4)
optimizer = torch.optim.Adam(model.parameters(), lr=1e-2)
for _ in range(16):
    x = torch.randn(12, 8)
    guess = (model(8 * x).softmax(1) + 1e-6).log()
    loss = F.kl_div(guess, (2 * x[:, :4]).softmax(1), reduction="batchmean")
    optimizer.zero_grad()
    loss.backward()
    optimizer.step()
