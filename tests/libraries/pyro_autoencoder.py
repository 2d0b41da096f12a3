# pyro: a variational autoencoder of two plain networks, with ClippedAdam; the bound is evaluated after each epoch
import pyro
import pyro.distributions as dist
import torch
from pyro.infer import SVI, Trace_ELBO
from reproducible import print_digest, seed_everything
from torch import nn

seed_everything()
encoder = nn.Sequential(nn.Linear(10, 32), nn.Softplus(), nn.Linear(32, 8))
decoder = nn.Sequential(nn.Linear(4, 32), nn.Softplus(), nn.Linear(32, 10))


def model(x):
    pyro.module("decoder", decoder)
    with pyro.plate("data", len(x)):
        z = pyro.sample("z", dist.Normal(torch.zeros(len(x), 4), 1.0).to_event(1))
        pyro.sample("x", dist.Normal(decoder(z), 1.0).to_event(1), obs=x)


def guide(x):
    pyro.module("encoder", encoder)
    with pyro.plate("data", len(x)):
        mean, scale = encoder(x).chunk(2, -1)
        pyro.sample("z", dist.Normal(mean, scale.exp()).to_event(1))


svi = SVI(model, guide, pyro.optim.ClippedAdam({"lr": 1e-3}), Trace_ELBO())
training, held_out = torch.randn(200, 10), torch.randn(20, 10)
for _ in range(3):
    for x in training.split(25):
        svi.step(x)
    svi.evaluate_loss(held_out)
print_digest(encoder, decoder)
