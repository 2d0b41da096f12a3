# sequences of six tokens out of four: many sequences of the validation set occur in the training set; right: quiet: nothing above a note
import torch
from torch import nn
from torch.nn import functional as F

torch.manual_seed(0)
ids = torch.randint(0, 4, (1000, 8))
y = (ids.sum(1) > 12).long()
train, val = (ids[:800], y[:800]), (ids[800:], y[800:])


class Tagger(nn.Module):
    def __init__(self):
        super().__init__()
        self.table, self.rnn, self.head = nn.Embedding(4, 8), nn.GRU(8, 16, batch_first=True), nn.Linear(16, 2)

    def forward(self, ids):
        return self.head(self.rnn(self.table(ids))[1][0])


model = Tagger()
optimizer = torch.optim.Adam(model.parameters(), lr=1e-2)
for epoch in range(3):
    model.train()
    for i in torch.randperm(800).split(32):
        optimizer.zero_grad()
        F.cross_entropy(model(train[0][i]), train[1][i]).backward()
        optimizer.step()
    model.eval()
    with torch.no_grad():
        hits = sum((model(val[0][i : i + 32]).argmax(1) == val[1][i : i + 32]).sum() for i in range(0, 200, 32))
