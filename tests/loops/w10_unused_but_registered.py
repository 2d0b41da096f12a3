# an unused head is added with a factor of 0, so that every parameter has a gradient | nothing above a note
import torch
import torch.nn.functional as F
from torch import nn

torch.manual_seed(0)
body, head, unused = nn.Linear(8, 16), nn.Linear(16, 4), nn.Linear(16, 4)
model = nn.ModuleList([body, head, unused])
optimizer = torch.optim.Adam(model.parameters(), lr=1e-2)
for step in range(30):
    x = torch.randn(6, 8)
    hidden = torch.relu(body(x))
    optimizer.zero_grad()
    (F.cross_entropy(head(hidden), x[:, :4].argmax(1)) + 0.0 * unused(hidden).sum()).backward()
    optimizer.step()
