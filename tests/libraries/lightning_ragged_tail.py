# lightning: a short last window of an epoch is divided by the full count
import logging

import lightning
import torch
from reproducible import print_digest, seed_everything
from torch import nn
from torch.utils.data import DataLoader, TensorDataset

logging.getLogger("lightning.pytorch").setLevel(logging.ERROR)


class Regression(lightning.LightningModule):
    def __init__(self):
        super().__init__()
        self.net = nn.Sequential(nn.Linear(20, 64), nn.ReLU(), nn.Dropout(0.1), nn.Linear(64, 1))

    def training_step(self, batch, number):
        x, y = batch
        loss = nn.functional.mse_loss(self.net(x), y)
        self.log("loss", loss)
        return loss

    def validation_step(self, batch, number):
        x, y = batch
        self.log("val_loss", nn.functional.mse_loss(self.net(x), y))

    def configure_optimizers(self):
        return torch.optim.AdamW(self.parameters(), 1e-3)


seed_everything()
data = TensorDataset(torch.randn(352, 20), torch.randn(352, 1))  # 11 batches
held_out = TensorDataset(torch.randn(64, 20), torch.randn(64, 1))
model = Regression()
trainer = lightning.Trainer(
    max_epochs=5,
    accelerator="cpu",
    accumulate_grad_batches=4,
    gradient_clip_val=1.0,
    logger=False,
    enable_checkpointing=False,
    enable_progress_bar=False,
    enable_model_summary=False,
)
trainer.fit(model, DataLoader(data, 32, shuffle=True), DataLoader(held_out, 32))
print_digest(model)
