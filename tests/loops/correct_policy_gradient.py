# An episode of forwards, one backward through all of them; advantages weigh the elements | nothing above a note
import torch
from torch import nn

torch.manual_seed(0)
policy = nn.Linear(4, 2)
optimizer = torch.optim.Adam(policy.parameters(), lr=0.01)
for _ in range(12):
    logs = []
    for _ in range(5):
        choice = torch.distributions.Categorical(logits=policy(torch.randn(4)))
        logs.append(choice.log_prob(choice.sample()))
    loss = (-torch.stack(logs) * torch.linspace(1, 0, 5)).mean()
    optimizer.zero_grad()
    loss.backward()
    optimizer.step()
