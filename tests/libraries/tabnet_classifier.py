# pytorch-tabnet: ghost batch norm, and both the training set and a validation set evaluated after each epoch
import numpy as np
import torch
from pytorch_tabnet.tab_model import TabNetClassifier
from reproducible import print_digest, seed_everything

seed_everything()
x, y = np.random.randn(256, 10).astype("float32"), np.random.randint(0, 3, 256)
x_valid, y_valid = np.random.randn(64, 10).astype("float32"), np.random.randint(0, 3, 64)
classifier = TabNetClassifier(
    n_d=8,
    n_a=8,
    n_steps=2,
    verbose=0,
    device_name="cpu",
    scheduler_fn=torch.optim.lr_scheduler.StepLR,
    scheduler_params={"step_size": 2, "gamma": 0.9},
)
classifier.fit(
    x, y, eval_set=[(x, y), (x_valid, y_valid)], max_epochs=4, batch_size=64, virtual_batch_size=32, drop_last=False
)
classifier.predict(x_valid)
print_digest(classifier.network)
