# a plateau schedule in mode min gets a share of right answers in percent; its name says nothing | W05 warning
import torch
import torch.nn.functional as F

torch.manual_seed(0)
w = torch.randn(10)
model = torch.nn.Sequential(torch.nn.Linear(10, 32), torch.nn.ReLU(), torch.nn.Linear(32, 2))
optimizer = torch.optim.SGD(model.parameters(), lr=0.1)
scheduler = torch.optim.lr_scheduler.ReduceLROnPlateau(optimizer, patience=2)
held_out = torch.randn(200, 10)
labels = (held_out @ w > 0).long()
for _ in range(12):
    for _ in range(4):
        x = torch.randn(32, 10)
        y = (x @ w > 0).long()
        optimizer.zero_grad()
        loss = F.cross_entropy(model(x), y)
        loss.backward()
        optimizer.step()
    model.eval()
    with torch.no_grad():
        logits = model(held_out)
    model.train()
    right = (logits.argmax(1) == labels).float().mean()
    val_loss = F.cross_entropy(logits, labels)
    metric = 100 * right
    scheduler.step(metric)
