# a vector quantization with a straight-through estimate and stop-gradients; right: quiet: nothing above a note
import torch
from torch import nn
from torch.nn import functional as F

torch.manual_seed(0)
class VQ(nn.Module):
    def __init__(self):
        super().__init__()
        self.encoder, self.decoder, self.codes = nn.Linear(10, 4), nn.Linear(4, 10), nn.Embedding(16, 4)

    def forward(self, x):
        z = self.encoder(x)
        index = torch.cdist(z, self.codes.weight).argmin(1)
        q = self.codes(index)
        loss = F.mse_loss(q, z.detach()) + 0.25 * F.mse_loss(z, q.detach())
        return self.decoder(z + (q - z).detach()), loss


model = VQ()
optimizer = torch.optim.Adam(model.parameters(), 1e-2)
for _ in range(30):
    x = torch.randn(16, 10)
    out, loss = model(x)
    loss = loss + F.mse_loss(out, x)
    optimizer.zero_grad()
    loss.backward()
    optimizer.step()
