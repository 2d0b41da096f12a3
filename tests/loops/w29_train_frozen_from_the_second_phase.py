# the stage trains first, and train() freezes it after 20 steps
import torch
import torch.nn.functional as F

torch.manual_seed(0)


class Staged(torch.nn.Module):
    def __init__(self):
        super().__init__()
        self.stage = torch.nn.Sequential(torch.nn.Linear(10, 16), torch.nn.BatchNorm1d(16))
        self.head = torch.nn.Linear(16, 2)

    def train(self, mode=True):
        super().train(mode)
        self.stage.requires_grad_(False)
        return self

    def forward(self, x):
        return self.head(torch.relu(self.stage(x)))


model = Staged()
optimizer = torch.optim.SGD(model.parameters(), lr=0.1)
for step in range(30):
    x = torch.randn(16, 10)
    optimizer.zero_grad()
    F.cross_entropy(model(x), (x[:, 0] > 0).long()).backward()
    optimizer.step()
    if step == 19:
        model.train()
