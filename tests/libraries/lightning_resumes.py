# lightning: checkpoints, early stopping, a plateau schedule, and a second Trainer that resumes the first one's best
import logging
import tempfile

import lightning
import torch
from lightning.pytorch.callbacks import EarlyStopping, ModelCheckpoint
from reproducible import print_digest, seed_everything
from torch import nn
from torch.utils.data import DataLoader, TensorDataset

logging.getLogger("lightning.pytorch").setLevel(logging.ERROR)


class Classifier(lightning.LightningModule):
    def __init__(self):
        super().__init__()
        self.net = nn.Sequential(nn.Linear(20, 64), nn.ReLU(), nn.Dropout(0.1), nn.Linear(64, 5))

    def training_step(self, batch, number):
        x, y = batch
        return nn.functional.cross_entropy(self.net(x), y, label_smoothing=0.1)

    def validation_step(self, batch, number):
        x, y = batch
        self.log("val_loss", nn.functional.cross_entropy(self.net(x), y))

    test_step = validation_step

    def configure_optimizers(self):
        optimizer = torch.optim.AdamW(self.parameters(), 1e-3)
        schedule = torch.optim.lr_scheduler.ReduceLROnPlateau(optimizer, patience=1)
        return {"optimizer": optimizer, "lr_scheduler": schedule, "monitor": "val_loss"}


def make_trainer(folder, epochs):
    return lightning.Trainer(
        max_epochs=epochs,
        accelerator="cpu",
        default_root_dir=folder,
        callbacks=[ModelCheckpoint(folder, monitor="val_loss"), EarlyStopping("val_loss", patience=20)],
        logger=False,
        enable_progress_bar=False,
        enable_model_summary=False,
    )


def samples(n):
    return TensorDataset(torch.randn(n, 20), torch.randint(0, 5, (n,)))


seed_everything()
training, validation = DataLoader(samples(320), 32, shuffle=True), DataLoader(samples(64), 32)
with tempfile.TemporaryDirectory() as folder:
    first = make_trainer(folder, 3)
    first.fit(Classifier(), training, validation)
    model = Classifier()
    second = make_trainer(folder, 6)
    second.fit(model, training, validation, ckpt_path=first.checkpoint_callback.best_model_path, weights_only=False)
    second.test(model, DataLoader(samples(64), 32), verbose=False)
print_digest(model)
