# a mixture of experts, one of which is never chosen; right: quiet: nothing above a note
import torch
from torch import nn
from torch.nn import functional as F

torch.manual_seed(0)
class Experts(nn.Module):
    def __init__(self):
        super().__init__()
        self.gate, self.experts = nn.Linear(8, 4), nn.ModuleList(nn.Linear(8, 8) for _ in range(4))
        self.out = nn.Linear(8, 2)
        nn.init.constant_(self.gate.bias, 0.0)
        with torch.no_grad():
            self.gate.bias[3] = -100.0

    def forward(self, x):
        weight, chosen = self.gate(x).softmax(1).max(1)
        out = torch.zeros_like(x)
        for number, expert in enumerate(self.experts):
            own = chosen == number
            if own.any():
                out = out.index_add(0, own.nonzero()[:, 0], expert(x[own]) * weight[own, None])
        return self.out(out)


model = Experts()
optimizer = torch.optim.Adam(model.parameters(), 1e-3)
for _ in range(30):
    x = torch.randn(16, 8)
    loss = F.cross_entropy(model(x), (x[:, 0] > 0).long())
    optimizer.zero_grad()
    loss.backward()
    optimizer.step()
