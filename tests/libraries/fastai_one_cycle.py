# fastai: the one-cycle policy with batch norm, a range test of the learning rate, and a last fit
import torch
from fastai.callback.schedule import *  # noqa: F403 - as its users do
from fastai.data.core import DataLoaders
from fastai.data.load import DataLoader
from fastai.learner import Learner
from fastai.losses import CrossEntropyLossFlat
from fastai.metrics import accuracy
from reproducible import print_digest, seed_everything
from torch import nn


def samples(n):
    return list(zip(torch.randn(n, 20), torch.randint(0, 5, (n,)), strict=True))


seed_everything()
loaders = DataLoaders(
    DataLoader(samples(200), bs=16, shuffle=True, num_workers=0), DataLoader(samples(64), bs=16, num_workers=0)
)
model = nn.Sequential(nn.Linear(20, 64), nn.ReLU(), nn.BatchNorm1d(64), nn.Dropout(0.1), nn.Linear(64, 5))
learner = Learner(loaders, model, loss_func=CrossEntropyLossFlat(), metrics=accuracy)
with learner.no_bar(), learner.no_logging():
    learner.fit_one_cycle(3, 1e-2)
    learner.lr_find(show_plot=False, num_it=20)
    learner.fit(1)
print_digest(model)
