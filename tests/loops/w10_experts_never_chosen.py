# a mixture of experts whose router, in a short run, never takes some | nothing above a note
import torch
import torch.nn.functional as F
from torch import nn

torch.manual_seed(0)
class Mixture(nn.Module):
    def __init__(self):
        super().__init__()
        self.experts = nn.ModuleList(nn.Linear(8, 4) for _ in range(4))

    def forward(self, x):
        weights = F.one_hot((x[:, 0] > 0).long(), 4).float()
        return sum(weights[:, number, None] * expert(x) for number, expert in enumerate(self.experts))


model = Mixture()
optimizer = torch.optim.Adam(model.parameters(), lr=1e-2)
for step in range(30):
    x = torch.randn(16, 8)
    optimizer.zero_grad()
    F.cross_entropy(model(x), x[:, :4].argmax(1)).backward()
    optimizer.step()
