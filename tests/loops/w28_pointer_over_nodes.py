# a pointer: log-probabilities over the nodes of each graph, nodes first
import torch
import torch.nn.functional as F
from torch import nn

torch.manual_seed(0)
scorer = nn.Linear(8, 1)
optimizer = torch.optim.Adam(scorer.parameters(), lr=1e-2)
for _ in range(16):
    nodes = torch.randn(7, 10, 8)  # [nodes, graphs, features]
    log_p = scorer(nodes).squeeze(-1).log_softmax(dim=0)
    loss = F.nll_loss(log_p.T, nodes[..., 0].argmax(0))
    optimizer.zero_grad()
    loss.backward()
    optimizer.step()
