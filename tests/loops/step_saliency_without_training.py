# gradients at the inputs of a loaded model in evaluation mode, with an idle optimizer; right: quiet: nothing above a note
import torch
from torch import nn
from torch.nn import functional as F

torch.manual_seed(0)
model = nn.Sequential(nn.Linear(6, 12), nn.ReLU(), nn.Linear(12, 2)).eval()
optimizer = torch.optim.Adam(model.parameters())
for _ in range(40):
    x = torch.randn(8, 6, requires_grad=True)
    model(x)[:, 0].sum().backward()
    saliency = x.grad.abs()
    model.zero_grad()
