# the list of clipped tensors is chosen by a name that none has | W26 fault
import torch
import torch.nn.functional as F
from torch import nn

class Net(nn.Module):
    def __init__(self):
        super().__init__()
        self.body = nn.GRU(4, 8, batch_first=True)
        self.out = nn.Linear(8, 2)
    def forward(self, x):
        return self.out(self.body(x)[0][:, -1])

torch.manual_seed(12)
net = Net()
recurrent = [p for name, p in net.named_parameters() if name.startswith("rnn.")]
opt = torch.optim.RMSprop(net.parameters(), lr=1e-3)
for _ in range(14):
    x = torch.randn(10, 6, 4)
    opt.zero_grad()
    F.cross_entropy(net(x), (x.sum((1, 2)) > 0).long()).backward()
    torch.nn.utils.clip_grad_norm_(recurrent, 1.0)
    opt.step()
