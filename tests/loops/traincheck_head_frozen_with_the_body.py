# source: discuss.pytorch.org/t/84911 | all but the normalization is frozen, the new head as well: slow learning, but it may be intended
import torch
import torch.nn.functional as F

torch.manual_seed(0)
body = torch.nn.Sequential(torch.nn.Linear(10, 16), torch.nn.BatchNorm1d(16), torch.nn.ReLU())
model = torch.nn.Sequential(body, torch.nn.Linear(16, 2))
for name, parameter in model.named_parameters():
    if "0.1" not in name:
        parameter.requires_grad = False
optimizer = torch.optim.SGD(model.parameters(), lr=0.1)
for _ in range(30):
    x = torch.randn(16, 10)
    optimizer.zero_grad()
    F.cross_entropy(model(x), (x[:, 0] > 0).long()).backward()
    optimizer.step()
