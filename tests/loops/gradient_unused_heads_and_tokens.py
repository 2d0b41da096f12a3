# a pooler, a second head and a class token that this task does not use; right: quiet: nothing above a note
import torch
from torch import nn
from torch.nn import functional as F

torch.manual_seed(0)
class Encoder(nn.Module):
    def __init__(self):
        super().__init__()
        self.token, self.table = nn.Parameter(torch.zeros(1, 1, 16)), nn.Embedding(50, 16)
        self.layer = nn.TransformerEncoderLayer(16, 2, 32, batch_first=True)
        self.pooler, self.span = nn.Linear(16, 16), nn.Linear(16, 2)

    def forward(self, ids, with_token=False):
        h = self.table(ids)
        if with_token:
            h = torch.cat([self.token.expand(len(h), 1, 16), h], 1)
        h = self.layer(h)
        return h, torch.tanh(self.pooler(h[:, 0])), self.span(h)


class Tagger(nn.Module):
    def __init__(self):
        super().__init__()
        self.encoder, self.classifier = Encoder(), nn.Linear(16, 5)

    def forward(self, ids):
        return self.classifier(self.encoder(ids)[0])


model = Tagger()
optimizer = torch.optim.AdamW(model.parameters(), 1e-3)
for _ in range(24):
    ids = torch.randint(0, 20, (8, 10))  # 30 of the embeddings are never looked up
    loss = F.cross_entropy(model(ids).flatten(0, 1), ids.flatten() % 5)
    optimizer.zero_grad()
    loss.backward()
    optimizer.step()
