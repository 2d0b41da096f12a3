# own | healthy: a perceptual loss runs through a network that is not frozen, in evaluation mode, and in no optimizer
import copy, torch, torch.nn as nn, torch.nn.functional as F
torch.manual_seed(0)
vgg = nn.Sequential(nn.Linear(8, 8), nn.ReLU()).eval()
net = nn.Linear(8, 8); opt = torch.optim.Adam(net.parameters())
for _ in range(35):
    x = torch.randn(16, 8); loss = F.mse_loss(vgg(net(x)), vgg(x).detach()); opt.zero_grad(); loss.backward(); opt.step()
