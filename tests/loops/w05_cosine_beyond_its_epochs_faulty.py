# a cosine of 5 epochs in a run of 14 | W05 note
import torch
import torch.nn.functional as F

torch.manual_seed(0)
w = torch.randn(10)
model = torch.nn.Sequential(torch.nn.Linear(10, 32), torch.nn.ReLU(), torch.nn.Linear(32, 2))
optimizer = torch.optim.SGD(model.parameters(), lr=0.1)
epochs, batches = 14, 3
scheduler = torch.optim.lr_scheduler.CosineAnnealingLR(optimizer, 5)
for _ in range(epochs):
    for _ in range(batches):
        x = torch.randn(16, 10)
        optimizer.zero_grad()
        F.cross_entropy(model(x), (x @ w > 0).long()).backward()
        optimizer.step()
    scheduler.step()
