# sbi: neural posterior estimation, with its own split, clipping and early stopping
import torch
from reproducible import print_digest, seed_everything
from sbi.inference import NPE
from sbi.utils import BoxUniform

seed_everything()
prior = BoxUniform(-torch.ones(2), torch.ones(2))
theta = prior.sample((300,))
x = theta + 0.1 * torch.randn(300, 2)
inference = NPE(prior, show_progress_bars=False)
estimator = inference.append_simulations(theta, x).train(max_num_epochs=6, training_batch_size=50)
print_digest(estimator)
