# the parameters are moved by hand, and an optimizer that a checkpoint needs stays idle; right: quiet: nothing above a note
import torch
from torch import nn
from torch.nn import functional as F

torch.manual_seed(0)
model = nn.Linear(6, 2)
optimizer = torch.optim.SGD(model.parameters(), 0.1)
for _ in range(40):
    x = torch.randn(8, 6)
    F.cross_entropy(model(x), (x[:, 0] > 0).long()).backward()
    for parameter in model.parameters():
        parameter.data -= 0.1 * parameter.grad
        parameter.grad = None
