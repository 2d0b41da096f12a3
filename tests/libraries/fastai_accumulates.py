# fastai: GradientAccumulation of 64 samples: it divides the loss by the number of batches in a window
import torch
from fastai.callback.training import GradientAccumulation, GradientClip
from fastai.data.core import DataLoaders
from fastai.data.load import DataLoader
from fastai.learner import Learner
from fastai.losses import CrossEntropyLossFlat
from reproducible import print_digest, seed_everything
from torch import nn


def samples(n):
    return list(zip(torch.randn(n, 20), torch.randint(0, 5, (n,)), strict=True))


seed_everything()
loaders = DataLoaders(
    DataLoader(samples(192), bs=16, shuffle=True, num_workers=0), DataLoader(samples(64), bs=16, num_workers=0)
)
model = nn.Sequential(nn.Linear(20, 64), nn.ReLU(), nn.LayerNorm(64), nn.Dropout(0.1), nn.Linear(64, 5))
callbacks = [GradientAccumulation(64), GradientClip(0.5)]
learner = Learner(loaders, model, loss_func=CrossEntropyLossFlat(), cbs=callbacks)
with learner.no_bar(), learner.no_logging():
    learner.fit(4, 1e-2)
print_digest(model)
