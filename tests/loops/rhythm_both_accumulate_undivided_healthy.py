# two optimizers on one loss, both step after four batches, and the loss is divided by four
import torch
import torch.nn.functional as F

torch.manual_seed(0)
body, head = torch.nn.Linear(10, 16), torch.nn.Linear(16, 3)
opt_body = torch.optim.SGD(body.parameters(), lr=1e-2)
opt_head = torch.optim.AdamW(head.parameters(), lr=1e-3)
for number in range(1, 81):
    x = torch.randn(8, 10)
    loss = F.cross_entropy(head(body(x).relu()), x[:, :3].argmax(1)) / 4
    loss.backward()
    if number % 4 == 0:
        for opt in (opt_body, opt_head):
            opt.step()
            opt.zero_grad()
