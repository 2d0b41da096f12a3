# an auxiliary head is trained every eighth step, another only at the beginning; right: quiet: nothing above a note
import torch
from torch import nn
from torch.nn import functional as F

torch.manual_seed(0)
class Net(nn.Module):
    def __init__(self):
        super().__init__()
        self.body, self.main = nn.Linear(10, 16), nn.Linear(16, 2)
        self.now_and_then, self.early = nn.Linear(16, 2), nn.Linear(16, 2)

    def forward(self, x):
        h = self.body(x).relu()
        return self.main(h), self.now_and_then(h), self.early(h)


net = Net()
optimizer = torch.optim.AdamW(net.parameters(), 1e-2)
for step in range(60):
    x = torch.randn(16, 10)
    y = (x[:, 0] > 0).long()
    main, other, early = net(x)
    loss = F.cross_entropy(main, y)
    if step % 8 == 0:
        loss = loss + 0.3 * F.cross_entropy(other, y)
    if step < 15:
        loss = loss + 0.3 * F.cross_entropy(early, y)
    optimizer.zero_grad()
    loss.backward()
    optimizer.step()
