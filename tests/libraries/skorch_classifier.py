# skorch: a classifier with its own split, clipping, a schedule and early stopping; fitted on
import numpy as np
import torch
from reproducible import print_digest, seed_everything
from skorch import NeuralNetClassifier
from skorch.callbacks import EarlyStopping, GradientNormClipping, LRScheduler
from torch import nn

seed_everything()
x, y = np.random.randn(200, 20).astype("float32"), np.random.randint(0, 5, 200)
net = NeuralNetClassifier(
    nn.Sequential(nn.Linear(20, 64), nn.ReLU(), nn.Dropout(0.2), nn.Linear(64, 5)),
    criterion=nn.CrossEntropyLoss,
    optimizer=torch.optim.SGD,
    optimizer__momentum=0.9,
    max_epochs=4,
    lr=0.05,
    batch_size=32,
    verbose=0,
    callbacks=[
        ("schedule", LRScheduler("CosineAnnealingLR", T_max=8)),
        ("clip", GradientNormClipping(1.0)),
        ("stop", EarlyStopping()),
    ],
)
net.fit(x, y)
net.predict(x)
net.partial_fit(x, y)
print_digest(net.module_)
