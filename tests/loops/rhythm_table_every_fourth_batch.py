# two optimizers on one loss: the network steps at every batch, the large table at every fourth, on the sum
import torch
import torch.nn.functional as F

torch.manual_seed(0)
table, network = torch.nn.Embedding(50, 8), torch.nn.Linear(8, 3)
often = torch.optim.Adam(network.parameters(), lr=1e-2)
seldom = torch.optim.SGD(table.parameters(), lr=1e-2)
for number in range(1, 81):
    words = torch.randint(50, (16,))
    loss = F.cross_entropy(network(table(words)), words % 3)
    loss.backward()
    often.step()
    often.zero_grad()
    if number % 4 == 0:
        seldom.step()
        seldom.zero_grad()
