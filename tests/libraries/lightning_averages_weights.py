# lightning: stochastic weight averaging in bfloat16, with batch statistics that are updated for the average
import logging

import lightning
import torch
from lightning.pytorch.callbacks import StochasticWeightAveraging
from reproducible import print_digest, seed_everything
from torch import nn
from torch.utils.data import DataLoader, TensorDataset

logging.getLogger("lightning.pytorch").setLevel(logging.ERROR)


class Regression(lightning.LightningModule):
    def __init__(self):
        super().__init__()
        self.net = nn.Sequential(nn.Linear(20, 64), nn.BatchNorm1d(64), nn.ReLU(), nn.Linear(64, 1))

    def training_step(self, batch, number):
        x, y = batch
        return nn.functional.mse_loss(self.net(x), y)

    def configure_optimizers(self):
        optimizer = torch.optim.SGD(self.parameters(), 1e-2, momentum=0.9)
        return [optimizer], [torch.optim.lr_scheduler.CosineAnnealingLR(optimizer, 6)]


seed_everything()
model = Regression()
trainer = lightning.Trainer(
    max_epochs=6,
    accelerator="cpu",
    precision="bf16-mixed",
    callbacks=[StochasticWeightAveraging(1e-2, swa_epoch_start=3)],
    logger=False,
    enable_checkpointing=False,
    enable_progress_bar=False,
    enable_model_summary=False,
)
trainer.fit(model, DataLoader(TensorDataset(torch.randn(320, 20), torch.randn(320, 1)), 32, shuffle=True))
print_digest(model)
