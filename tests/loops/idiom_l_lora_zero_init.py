# own | healthy: LoRA: the second matrix starts at zero, so the first one's first gradient is exactly zero
import copy, torch, torch.nn as nn, torch.nn.functional as F
torch.manual_seed(0)
base = nn.Linear(8, 8).requires_grad_(False); A, B = nn.Linear(8, 2, bias=False), nn.Linear(2, 8, bias=False); nn.init.zeros_(B.weight); opt = torch.optim.Adam([*A.parameters(), *B.parameters()], lr=1e-2)
for _ in range(35):
    x = torch.randn(16, 8); loss = F.mse_loss(base(x) + B(A(x)), x.flip(1)); opt.zero_grad(); loss.backward(); opt.step()
