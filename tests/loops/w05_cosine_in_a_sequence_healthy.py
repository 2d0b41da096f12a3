# a warm-up and a cosine that ends with the run | quiet
import torch
import torch.nn.functional as F

torch.manual_seed(0)
w = torch.randn(10)
model = torch.nn.Sequential(torch.nn.Linear(10, 32), torch.nn.ReLU(), torch.nn.Linear(32, 2))
optimizer = torch.optim.SGD(model.parameters(), lr=0.1)
epochs, batches = 5, 12
scheduler = torch.optim.lr_scheduler.SequentialLR(
    optimizer,
    [
        torch.optim.lr_scheduler.LinearLR(optimizer, 0.1, total_iters=6),
        torch.optim.lr_scheduler.CosineAnnealingLR(optimizer, T_max=epochs * batches - 6),
    ],
    [6],
)
for _ in range(epochs):
    for _ in range(batches):
        x = torch.randn(16, 10)
        optimizer.zero_grad()
        F.cross_entropy(model(x), (x @ w > 0).long()).backward()
        optimizer.step()
        scheduler.step()
