# gpytorch: a variational process with natural gradients for its distribution and Adam for the rest
import gpytorch
import torch
from gpytorch.variational import NaturalVariationalDistribution, VariationalStrategy
from reproducible import print_digest, seed_everything


class Process(gpytorch.models.ApproximateGP):
    def __init__(self, inducing):
        distribution = NaturalVariationalDistribution(len(inducing))
        super().__init__(VariationalStrategy(self, inducing, distribution, learn_inducing_locations=True))
        self.mean_module = gpytorch.means.ConstantMean()
        self.covar_module = gpytorch.kernels.ScaleKernel(gpytorch.kernels.RBFKernel())

    def forward(self, x):
        return gpytorch.distributions.MultivariateNormal(self.mean_module(x), self.covar_module(x))


seed_everything()
x = torch.rand(200, 2)
y = torch.sin(6 * x[:, 0]) + 0.1 * torch.randn(200)
model, likelihood = Process(x[:16].clone()), gpytorch.likelihoods.GaussianLikelihood()
natural = gpytorch.optim.NGD(model.variational_parameters(), num_data=200, lr=0.1)
adam = torch.optim.Adam([*model.hyperparameters(), *likelihood.parameters()], 0.01)
bound = gpytorch.mlls.VariationalELBO(likelihood, model, 200)
model.train()
likelihood.train()
for _ in range(4):
    for rows in torch.randperm(200).split(40):
        natural.zero_grad()
        adam.zero_grad()
        loss = -bound(model(x[rows]), y[rows])
        loss.backward()
        natural.step()
        adam.step()
print_digest(model, likelihood)
