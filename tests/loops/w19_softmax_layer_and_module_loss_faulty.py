# a Softmax layer ends the model, and CrossEntropyLoss gets class weights and label smoothing
import torch
import torch.nn.functional as F
from torch import nn

torch.manual_seed(0)
model = nn.Sequential(nn.Linear(12, 24), nn.Tanh(), nn.Linear(24, 5), nn.Softmax(dim=1))
criterion = nn.CrossEntropyLoss(weight=torch.tensor([1.0, 2.0, 1.0, 0.5, 1.0]), label_smoothing=0.1)
optimizer = torch.optim.SGD(model.parameters(), lr=0.1, momentum=0.9)
for _ in range(24):
    x = torch.randn(20, 12)
    y = x[:, :5].argmax(1)
    optimizer.zero_grad()
    criterion(model(x), y).backward()
    optimizer.step()
