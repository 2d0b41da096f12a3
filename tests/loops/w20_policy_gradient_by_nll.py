# log_prob of a categorical distribution, and nll_loss as a gather of log-probabilities weighted by rewards
import torch
import torch.nn.functional as F
from torch import nn

torch.manual_seed(0)
policy = nn.Linear(8, 4)
optimizer = torch.optim.Adam(policy.parameters(), lr=1e-2)
for _ in range(16):
    x = torch.randn(12, 8)
    chosen = torch.distributions.Categorical(logits=policy(x)).sample()
    reward = (chosen == x[:, :4].argmax(1)).float()
    loss = (F.nll_loss(policy(x).log_softmax(1), chosen, reduction="none") * reward).mean()
    optimizer.zero_grad()
    loss.backward()
    optimizer.step()
