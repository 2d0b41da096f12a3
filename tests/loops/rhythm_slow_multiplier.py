# dual ascent: a multiplier steps once in five batches on the gradients of all five, the network at each
import torch

torch.manual_seed(0)
network = torch.nn.Linear(6, 1)
multiplier = torch.nn.Parameter(torch.ones(()))
fast = torch.optim.SGD(network.parameters(), lr=1e-2)
slow = torch.optim.SGD([multiplier], lr=1e-3, maximize=True)
for number in range(1, 101):
    x = torch.randn(16, 6)
    out = network(x)
    loss = (out - x.sum(1, keepdim=True)).square().mean() + multiplier * (out.square().mean() - 1)
    fast.zero_grad()
    loss.backward()
    fast.step()
    if number % 5 == 0:
        slow.step()
        slow.zero_grad()
