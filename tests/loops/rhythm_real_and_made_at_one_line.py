# a discriminator adds up the losses of real and of made samples, in one loop over both
import torch
import torch.nn.functional as F

torch.manual_seed(0)
generator = torch.nn.Sequential(torch.nn.Linear(4, 16), torch.nn.ReLU(), torch.nn.Linear(16, 6))
judge = torch.nn.Sequential(torch.nn.Linear(6, 16), torch.nn.ReLU(), torch.nn.Linear(16, 1))
opt_g = torch.optim.Adam(generator.parameters(), lr=1e-3)
opt_d = torch.optim.Adam(judge.parameters(), lr=1e-3)
for _ in range(40):
    made = generator(torch.randn(16, 4))
    opt_d.zero_grad()
    for samples, label in ((torch.randn(16, 6) + 2, 1.0), (made.detach(), 0.0)):
        scores = judge(samples)
        F.binary_cross_entropy_with_logits(scores, torch.full_like(scores, label)).backward()
    opt_d.step()
    opt_g.zero_grad()
    scores = judge(made)
    F.binary_cross_entropy_with_logits(scores, torch.ones_like(scores)).backward()
    opt_g.step()
