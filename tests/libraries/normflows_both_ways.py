# normflows: a flow trained by the forward and the reverse divergence in turn, through methods other than forward
import normflows
import torch
from reproducible import print_digest, seed_everything

seed_everything()
layers = []
for _ in range(3):
    layers.append(normflows.flows.AffineCouplingBlock(normflows.nets.MLP([1, 16, 2], init_zeros=True)))
    layers.append(normflows.flows.Permute(2, mode="swap"))
model = normflows.NormalizingFlow(normflows.distributions.DiagGaussian(2), layers, normflows.distributions.TwoMoons())
optimizer = torch.optim.Adam(model.parameters(), 1e-3)
for step in range(25):
    loss = model.forward_kld(torch.randn(32, 2)) if step % 2 else model.reverse_kld(32)
    optimizer.zero_grad()
    loss.backward()
    optimizer.step()
print_digest(model)
