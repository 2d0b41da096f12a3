# slots compete by a softmax over slots; classes are another dimension of the same tensor
import torch
import torch.nn.functional as F
from torch import nn

torch.manual_seed(0)
model = nn.Linear(8, 12)
optimizer = torch.optim.Adam(model.parameters(), lr=1e-2)
for _ in range(16):
    x = torch.randn(16, 8)
    share = model(x).view(16, 3, 4).softmax(1)  # of three slots, for each of four classes
    loss = F.cross_entropy(share[:, 0], x[:, :4].argmax(1))
    optimizer.zero_grad()
    loss.backward()
    optimizer.step()
