# healthy: Lightning clips by gradient_clip_val, and evaluates
import copy
import torch
import torch.nn.functional as F
from torch import nn


import lightning as L
from torch.utils.data import DataLoader, TensorDataset

class Module(L.LightningModule):
    def __init__(self):
        super().__init__()
        self.net = nn.Sequential(nn.Linear(8, 16), nn.Dropout(0.1), nn.ReLU(), nn.Linear(16, 2))
    def training_step(self, batch, index):
        return F.cross_entropy(self.net(batch[0]), batch[1])
    def validation_step(self, batch, index):
        self.log("val", F.cross_entropy(self.net(batch[0]), batch[1]))
    def configure_optimizers(self):
        return torch.optim.Adam(self.parameters(), lr=1e-2)

torch.manual_seed(6)
x = torch.randn(96, 8)
data = TensorDataset(x, (x[:, 0] > 0).long())
options = dict(logger=False, enable_checkpointing=False, enable_progress_bar=False, enable_model_summary=False)
trainer = L.Trainer(max_epochs=3, accelerator="cpu", gradient_clip_val=0.5, **options)
trainer.fit(Module(), DataLoader(data, 16, shuffle=True), DataLoader(TensorDataset(x[:32] + 5, data[:32][1]), 16))
