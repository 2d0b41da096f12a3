# an LSTM made without batch_first gets [samples, time, features] | corrected
import torch
import torch.nn.functional as F
from torch import nn

torch.manual_seed(0)
class Classifier(nn.Module):
    def __init__(self):
        super().__init__()
        self.rnn, self.out = nn.LSTM(6, 16, batch_first=True), nn.Linear(16, 3)

    def forward(self, x):
        return self.out(self.rnn(x)[0][:, -1])


model = Classifier()
optimizer = torch.optim.Adam(model.parameters(), lr=5e-3)
for _ in range(14):
    x = torch.randn(20, 7, 6)
    loss = F.cross_entropy(model(x), x.sum(1)[:, :3].argmax(1))
    optimizer.zero_grad()
    loss.backward()
    optimizer.step()
