# BYOL whose momentum encoder is in the optimizer's list too, and moved by hand; right: quiet: nothing above a note
import torch
from torch import nn
from torch.nn import functional as F

torch.manual_seed(0)
import copy


class BYOL(nn.Module):
    def __init__(self):
        super().__init__()
        self.online = nn.Sequential(nn.Linear(10, 16), nn.ReLU(), nn.Linear(16, 8))
        self.predictor = nn.Linear(8, 8)
        self.target = copy.deepcopy(self.online)

    def forward(self, one, two):
        with torch.no_grad():
            aim = self.target(two)
        return -F.cosine_similarity(self.predictor(self.online(one)), aim).mean()


model = BYOL()
optimizer = torch.optim.Adam(model.parameters(), 1e-3)
for _ in range(40):
    x = torch.randn(16, 10)
    loss = model(x + 0.1 * torch.randn_like(x), x + 0.1 * torch.randn_like(x))
    optimizer.zero_grad()
    loss.backward()
    optimizer.step()
    for slow, fast in zip(model.target.parameters(), model.online.parameters()):
        slow.data = 0.99 * slow.data + 0.01 * fast.data
