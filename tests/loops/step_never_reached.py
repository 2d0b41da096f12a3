# the step belongs to a window of 16 micro-batches, and the counter starts again in epochs of 10; right: W11 fault
import torch
from torch import nn
from torch.nn import functional as F

torch.manual_seed(0)
class Net(nn.Module):
    def __init__(self):
        super().__init__()
        self.rnn, self.out = nn.LSTM(5, 8, batch_first=True), nn.Linear(8, 1)

    def forward(self, x):
        return self.out(self.rnn(x)[0][:, -1])


net = Net()
optimizer = torch.optim.RMSprop(net.parameters(), 1e-3)
data = [(torch.randn(4, 7, 5), torch.randn(4, 1)) for _ in range(10)]
for epoch in range(5):
    for number, (x, y) in enumerate(data, 1):
        loss = nn.MSELoss()(net(x), y) / 16
        loss.backward()
        if number % 16 == 0:
            optimizer.step()
            optimizer.zero_grad()
