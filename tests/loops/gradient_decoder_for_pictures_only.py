# a decoder in the optimizer that is only used to show pictures, without gradients; right: quiet: nothing above a note
import torch
from torch import nn
from torch.nn import functional as F

torch.manual_seed(0)
class Net(nn.Module):
    def __init__(self):
        super().__init__()
        self.encoder, self.head, self.decoder = nn.Linear(10, 8), nn.Linear(8, 2), nn.Linear(8, 10)

    def forward(self, x):
        return self.head(self.encoder(x).relu())


net = Net()
optimizer = torch.optim.Adam(net.parameters(), 1e-2)
for step in range(48):
    x = torch.randn(16, 10)
    loss = F.cross_entropy(net(x), (x[:, 0] > 0).long())
    optimizer.zero_grad()
    loss.backward()
    optimizer.step()
    if step % 12 == 11:
        with torch.no_grad():
            picture = net.decoder(net.encoder(x[:2]))
