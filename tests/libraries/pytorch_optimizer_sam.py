# pytorch_optimizer: SAM around another optimizer: two backwards in a step, the second one at perturbed parameters
import torch
from pytorch_optimizer import SAM
from reproducible import print_digest, seed_everything
from torch import nn

seed_everything()
model = nn.Sequential(nn.Linear(20, 32), nn.ReLU(), nn.Linear(32, 5))
optimizer = SAM(model.parameters(), torch.optim.SGD, lr=0.05, momentum=0.9, rho=0.05)
for _ in range(24):
    x, y = torch.randn(16, 20), torch.randint(0, 5, (16,))
    nn.functional.cross_entropy(model(x), y).backward()
    optimizer.first_step(zero_grad=True)
    nn.functional.cross_entropy(model(x), y).backward()
    optimizer.second_step(zero_grad=True)
print_digest(model)
