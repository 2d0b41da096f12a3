# scaled_dot_product_attention always gets a probability, in a block of a block | W27 warning
import torch
import torch.nn.functional as F
from torch import nn


class Attention(nn.Module):
    def __init__(self):
        super().__init__()
        self.qkv = nn.Linear(4, 12)
    def forward(self, x):
        q, k, v = self.qkv(x).chunk(3, -1)
        return F.scaled_dot_product_attention(q, k, v, dropout_p=0.1)

class Net(nn.Module):
    def __init__(self):
        super().__init__()
        self.blocks, self.out = nn.Sequential(Attention(), Attention()), nn.Linear(4, 3)
    def forward(self, x):
        return self.out(self.blocks(x.unflatten(1, (3, 4))).mean(1))

torch.manual_seed(10)
net = Net()
X, Y = torch.randn(160, 12), torch.randint(0, 3, (160,))
optimizer = torch.optim.AdamW(net.parameters(), lr=3e-3)
for epoch in range(3):
    net.train()
    for i in range(0, 128, 16):
        with torch.autocast("cpu", dtype=torch.bfloat16):
            loss = F.cross_entropy(net(X[i : i + 16]), Y[i : i + 16]) / 2
        loss.backward()
        if i % 32:
            optimizer.step()
            optimizer.zero_grad()
    net.eval()
    print(F.cross_entropy(net(X[128:]), Y[128:]).item())
