# a VAE reconstructs one fixed batch of the training set after every epoch; right: quiet: nothing above a note
import torch
from torch import nn
from torch.nn import functional as F

torch.manual_seed(0)
class VAE(nn.Module):
    def __init__(self):
        super().__init__()
        self.encode, self.decode = nn.Linear(36, 8), nn.Linear(4, 36)

    def forward(self, x):
        mean, log_var = self.encode(x).chunk(2, 1)
        z = mean + torch.randn_like(mean) * (0.5 * log_var).exp()
        return self.decode(z), -0.5 * (1 + log_var - mean**2 - log_var.exp()).sum(1).mean()


model = VAE()
optimizer = torch.optim.Adam(model.parameters(), 1e-3)
images = torch.rand(160, 36)
fixed = images[:16]
for epoch in range(6):
    model.train()
    for x in images.split(16):
        out, kl = model(x)
        loss = F.mse_loss(out, x, reduction="sum") / len(x) + kl
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
    model.eval()
    with torch.no_grad():
        samples = model(fixed)[0]
        noise = model(torch.rand(16, 36))[0]
