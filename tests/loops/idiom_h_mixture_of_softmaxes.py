# own | healthy: a mixture of softmaxes: nll_loss of the logarithm of a mean of probabilities
import copy, torch, torch.nn as nn, torch.nn.functional as F
torch.manual_seed(0)
net = nn.Linear(8, 12); opt = torch.optim.Adam(net.parameters())
for _ in range(35):
    x = torch.randn(16, 8); p = net(x).view(16, 3, 4).softmax(-1).mean(1); loss = F.nll_loss(p.log(), x[:, :4].argmax(1)); opt.zero_grad(); loss.backward(); opt.step()
