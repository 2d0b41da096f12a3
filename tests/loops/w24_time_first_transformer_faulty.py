# a TransformerEncoder, time first, without a mask, in bfloat16, predicts the next token
import torch
import torch.nn.functional as F
from torch import nn

torch.manual_seed(0)
V, T = 19, 9


class Transformer(nn.Module):
    def __init__(self):
        super().__init__()
        self.embed, self.place = nn.Embedding(V, 16), nn.Embedding(T, 16)
        self.blocks = nn.TransformerEncoder(nn.TransformerEncoderLayer(16, 2, 32, dropout=0.1, norm_first=True), 2, enable_nested_tensor=False)
        self.out = nn.Linear(16, V)

    def forward(self, ids):
        t = len(ids)
        mask = torch.zeros(t, t)
        h = self.embed(ids) + self.place(torch.arange(t))[:, None]
        return self.out(self.blocks(h, mask))


model, criterion = Transformer(), nn.CrossEntropyLoss(label_smoothing=0.1)
optimizer = torch.optim.AdamW(model.parameters(), lr=1e-3)
for _ in range(14):
    ids = torch.randint(V, (T, 8))
    with torch.autocast("cpu", torch.bfloat16):
        loss = criterion(model(ids)[:-1].flatten(0, 1), ids[1:].flatten())
    optimizer.zero_grad()
    loss.backward()
    optimizer.step()
