# botorch: a model fitted with Adam; then an acquisition function is optimized, whose gradients are for scipy alone
import torch
from botorch.acquisition import qLogExpectedImprovement
from botorch.models import SingleTaskGP
from botorch.optim import optimize_acqf
from botorch.optim.fit import fit_gpytorch_mll_torch
from gpytorch.mlls import ExactMarginalLogLikelihood
from reproducible import print_digest, seed_everything

seed_everything()
x = torch.rand(12, 2, dtype=torch.double)
y = x.square().sum(1, keepdim=True)
model = SingleTaskGP(x, y)
fit_gpytorch_mll_torch(ExactMarginalLogLikelihood(model.likelihood, model), step_limit=40)
bounds = torch.tensor([[0.0, 0.0], [1.0, 1.0]], dtype=torch.double)
candidates, _ = optimize_acqf(qLogExpectedImprovement(model, y.max()), bounds, 2, 2, 16, options={"maxiter": 10})
print_digest(model, candidates)
