# gpytorch: an exact Gaussian process, whose modules have a call of their own; Adam, then LBFGS
import gpytorch
import torch
from reproducible import print_digest, seed_everything


class Process(gpytorch.models.ExactGP):
    def __init__(self, x, y, likelihood):
        super().__init__(x, y, likelihood)
        self.mean_module = gpytorch.means.ConstantMean()
        self.covar_module = gpytorch.kernels.ScaleKernel(gpytorch.kernels.RBFKernel())

    def forward(self, x):
        return gpytorch.distributions.MultivariateNormal(self.mean_module(x), self.covar_module(x))


seed_everything()
x = torch.linspace(0, 1, 60)
y = torch.sin(6.28 * x) + 0.1 * torch.randn(60)
likelihood = gpytorch.likelihoods.GaussianLikelihood()
model = Process(x, y, likelihood)
marginal = gpytorch.mlls.ExactMarginalLogLikelihood(likelihood, model)
model.train()
optimizer = torch.optim.Adam(model.parameters(), 0.1)
for _ in range(30):
    optimizer.zero_grad()
    loss = -marginal(model(x), y)
    loss.backward()
    optimizer.step()

lbfgs = torch.optim.LBFGS(model.parameters(), 0.1, max_iter=4)


def closure():
    lbfgs.zero_grad()
    loss = -marginal(model(x), y)
    loss.backward()
    return loss


for _ in range(6):
    lbfgs.step(closure)
model.eval()
with torch.no_grad():
    likelihood(model(torch.linspace(0, 1, 30)))
print_digest(model)
