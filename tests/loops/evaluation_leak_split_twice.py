# the split is drawn again for the validation set, with another permutation; right: W16 fault at the evaluation
import torch
from torch import nn
from torch.nn import functional as F

torch.manual_seed(0)
class Model(nn.Module):
    def __init__(self):
        super().__init__()
        self.table, self.block = nn.Embedding(100, 16), nn.TransformerEncoderLayer(16, 2, 32, batch_first=True)
        self.head = nn.Linear(16, 100)

    def forward(self, ids):
        return self.head(self.block(self.table(ids)))


def split(texts, part):
    order = torch.randperm(len(texts))
    return texts[order[:160]] if part == "train" else texts[order[160:]]


texts = torch.randint(0, 100, (220, 16))
train, valid = split(texts, "train"), split(texts, "valid")
model = Model()
optimizer = torch.optim.AdamW(model.parameters(), 1e-3)
for step in range(60):
    batch = train[torch.randint(0, 160, (16,))]
    loss = F.cross_entropy(model(batch).flatten(0, 1), batch.roll(1, 1).flatten())
    optimizer.zero_grad(set_to_none=True)
    loss.backward()
    optimizer.step()
    if step % 20 == 19:
        model.eval()
        with torch.inference_mode():
            losses = [F.cross_entropy(model(batch).flatten(0, 1), batch.roll(1, 1).flatten()) for batch in valid.split(12)]
        model.train()
        print("valid", torch.stack(losses).mean().item())
