# windows of a series, the validation after the training in time; right: quiet: nothing above a note
import torch
from torch import nn
from torch.nn import functional as F

torch.manual_seed(0)
series = torch.randn(600).cumsum(0)
windows = series.unfold(0, 24, 4)[..., None]
past, future = windows[:110], windows[116:]
model = nn.LSTM(1, 8, batch_first=True)
head = nn.Linear(8, 1)
optimizer = torch.optim.Adam([*model.parameters(), *head.parameters()], 1e-2)
for epoch in range(4):
    model.train()
    for x in past.split(11):
        optimizer.zero_grad()
        F.mse_loss(head(model(x[:, :-1])[0][:, -1]), x[:, -1]).backward()
        optimizer.step()
    model.eval()
    with torch.no_grad():
        validation = [F.mse_loss(head(model(x[:, :-1])[0][:, -1]), x[:, -1]).item() for x in future.split(7)]
