# a teacher is trained, then in evaluation mode labels the same inputs for a student; right: quiet: nothing above a note
import torch
from torch import nn
from torch.nn import functional as F

torch.manual_seed(0)
def network():
    return nn.Sequential(nn.Linear(10, 24), nn.BatchNorm1d(24), nn.ReLU(), nn.Linear(24, 4))


X, y = torch.randn(256, 10), torch.randint(4, (256,))
teacher, student = network(), network()
optimizer = torch.optim.Adam(teacher.parameters(), 1e-2)
for epoch in range(4):
    for i in torch.randperm(256).split(32):
        optimizer.zero_grad()
        F.cross_entropy(teacher(X[i]), y[i]).backward()
        optimizer.step()
teacher.eval()
optimizer_of_student = torch.optim.Adam(student.parameters(), 1e-2)
for epoch in range(3):
    for i in torch.randperm(256)[:192].split(32):
        with torch.no_grad():
            soft = teacher(X[i]).softmax(1)
        loss = F.kl_div(student(X[i]).log_softmax(1), soft, reduction="batchmean")
        optimizer_of_student.zero_grad()
        loss.backward()
        optimizer_of_student.step()
