# a search for the learning rate puts back a state that was not copied, accumulating, by modules | W22 fault
import copy
import torch
import torch.nn.functional as F
from torch import nn


class Net(nn.Module):
    def __init__(self):
        super().__init__()
        self.encoder, self.decoder = nn.LSTM(5, 8, batch_first=True), nn.Linear(8, 2)
    def forward(self, x):
        return self.decoder(self.encoder(x)[0][:, -1])

def train(net, rate, steps):
    optimizer = torch.optim.SGD(net.parameters(), lr=rate)
    for _ in range(steps):
        optimizer.zero_grad()
        for _ in range(2):
            x = torch.randn(12, 7, 5)
            with torch.autocast("cpu", dtype=torch.bfloat16):
                loss = F.cross_entropy(net(x), (x.sum((1, 2)) > 0).long()) / 2
            loss.backward()
        optimizer.step()

torch.manual_seed(10)
net = Net()
before = {"encoder": net.encoder.state_dict(), "decoder": net.decoder.state_dict()}
for rate in (1e-3, 1e-2, 1e-1):
    train(net, rate, 4)
    net.encoder.load_state_dict(before["encoder"])
    net.decoder.load_state_dict(before["decoder"])
train(net, 1e-2, 12)
