# two optimizers on one loss, both step after two batches, and the loss is divided by two
import torch
import torch.nn.functional as F

torch.manual_seed(0)
body, head = torch.nn.Linear(10, 16), torch.nn.Linear(16, 3)
opt_body = torch.optim.SGD(body.parameters(), lr=1e-2)
opt_head = torch.optim.AdamW(head.parameters(), lr=1e-3)
for _ in range(30):
    opt_body.zero_grad()
    opt_head.zero_grad()
    for _ in range(2):
        x = torch.randn(8, 10)
        loss = F.cross_entropy(head(body(x).relu()), x[:, :3].argmax(1)) / 2
        loss.backward()
    opt_body.step()
    opt_head.step()
