# two optimizers on one loss, with windows of 2 and of 4 batches; the loss is divided for the shorter one
import torch
import torch.nn.functional as F

torch.manual_seed(0)
body, head = torch.nn.Linear(10, 16), torch.nn.Linear(16, 3)
opt_head = torch.optim.AdamW(head.parameters(), lr=1e-3)
opt_body = torch.optim.AdamW(body.parameters(), lr=1e-4)
for number in range(1, 81):
    x = torch.randn(8, 10)
    loss = F.cross_entropy(head(body(x).relu()), x[:, :3].argmax(1)) / 2
    loss.backward()
    if number % 2 == 0:
        opt_head.step()
        opt_head.zero_grad()
    if number % 4 == 0:
        opt_body.step()
        opt_body.zero_grad()
