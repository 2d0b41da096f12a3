# the backbone runs under no_grad and is in the optimizer; right: W07 fault
import torch
from torch import nn
from torch.nn import functional as F

torch.manual_seed(0)
class Classifier(nn.Module):
    def __init__(self):
        super().__init__()
        self.backbone = nn.Sequential(nn.Embedding(40, 16), nn.TransformerEncoderLayer(16, 2, 32, batch_first=True))
        self.head = nn.Linear(16, 4)

    def forward(self, ids):
        with torch.no_grad():
            hidden = self.backbone(ids)
        return self.head(hidden.mean(1))


model = Classifier()
optimizer = torch.optim.AdamW(model.parameters(), 1e-3)
for _ in range(25):
    ids = torch.randint(0, 40, (8, 12))
    loss = nn.CrossEntropyLoss()(model(ids), ids[:, 0] % 4)
    optimizer.zero_grad()
    loss.backward()
    optimizer.step()
