# .data of the output of the first of two models with an optimizer of their own each; right: W07 fault
import torch
from torch import nn
from torch.nn import functional as F

torch.manual_seed(0)
generator = nn.Sequential(nn.Linear(4, 16), nn.ReLU(), nn.Linear(16, 10))
judge = nn.Sequential(nn.Linear(10, 16), nn.ReLU(), nn.Linear(16, 1))
of_generator, of_judge = (torch.optim.Adam(net.parameters(), 1e-3) for net in (generator, judge))
for _ in range(30):
    made = generator(torch.randn(8, 4)).data
    real = torch.randn(8, 10)
    loss = F.softplus(-judge(real)).mean() + F.softplus(judge(made)).mean()
    of_judge.zero_grad()
    loss.backward()
    of_judge.step()
    loss = F.softplus(-judge(made)).mean()
    of_generator.zero_grad()
    loss.backward()
    of_generator.step()
