# a convolution over time with same padding predicts the next token; [B, V, T], with padding ignored, accumulated
import torch
import torch.nn.functional as F
from torch import nn

torch.manual_seed(0)
V, T = 15, 12


class Net(nn.Module):
    def __init__(self):
        super().__init__()
        self.embed, self.conv, self.out = nn.Embedding(V, 16), nn.Conv1d(16, 24, 3), nn.Conv1d(24, V, 1)

    def forward(self, ids):
        h = F.pad(self.embed(ids).transpose(1, 2), (1, 1))
        return self.out(self.conv(h).relu())


net = Net()
optimizer = torch.optim.SGD(net.parameters(), lr=0.1)
for number in range(1, 25):
    stream = torch.randint(1, V, (5, T + 1))
    x, y = stream[:, :-1], stream[:, 1:].clone()
    y[0, -3:] = -100
    scores = net(x)
    loss = F.cross_entropy(scores, y) / 2
    loss.backward()
    if number % 2 == 0:
        optimizer.step()
        optimizer.zero_grad()
