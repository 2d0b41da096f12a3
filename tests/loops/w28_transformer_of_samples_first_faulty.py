# a TransformerEncoder without batch_first gets [samples, time, features]
import torch
import torch.nn.functional as F
from torch import nn

torch.manual_seed(0)
class Classifier(nn.Module):
    def __init__(self):
        super().__init__()
        self.encoder = nn.TransformerEncoder(nn.TransformerEncoderLayer(8, 2, 16), 1, enable_nested_tensor=False)
        self.out = nn.Linear(8, 3)

    def forward(self, x):
        return self.out(self.encoder(x).mean(1))


model = Classifier()
optimizer = torch.optim.Adam(model.parameters(), lr=1e-3)
for _ in range(14):
    x = torch.randn(16, 5, 8)
    loss = F.cross_entropy(model(x), x.sum(1)[:, :3].argmax(1))
    optimizer.zero_grad()
    loss.backward()
    optimizer.step()
