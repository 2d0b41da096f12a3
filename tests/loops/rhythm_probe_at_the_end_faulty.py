# the model accumulates four batches undivided, and a probe trains once for each step of the model | W01 fault
import torch
import torch.nn.functional as F

torch.manual_seed(0)
model, probe = torch.nn.Sequential(torch.nn.Linear(10, 16), torch.nn.ReLU(), torch.nn.Linear(16, 3)), torch.nn.Linear(3, 2)
optimizer = torch.optim.SGD(model.parameters(), lr=1e-2)
opt_probe = torch.optim.SGD(probe.parameters(), lr=1e-2)
for number in range(1, 81):
    x = torch.randn(8, 10)
    out = model(x)
    loss = F.cross_entropy(out, x[:, :3].argmax(1))
    loss.backward()
    if number % 4 == 0:
        optimizer.step()
        optimizer.zero_grad()
        opt_probe.zero_grad()
        F.cross_entropy(probe(out.detach()), (x[:, 3] > 0).long()).backward()
        opt_probe.step()
