# skorch: LBFGS on the whole training set, whose closure runs several times in a step
import numpy as np
import torch
from reproducible import print_digest, seed_everything
from skorch import NeuralNetRegressor
from torch import nn

seed_everything()
x, y = np.random.randn(128, 20).astype("float32"), np.random.randn(128, 1).astype("float32")
net = NeuralNetRegressor(
    nn.Sequential(nn.Linear(20, 32), nn.Tanh(), nn.Linear(32, 1)),
    optimizer=torch.optim.LBFGS,
    max_epochs=12,
    lr=0.5,
    batch_size=-1,
    verbose=0,
    train_split=None,
)
net.fit(x, y)
net.predict(x)
print_digest(net.module_)
