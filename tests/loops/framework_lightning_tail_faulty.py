# Lightning divides a short last window by the full count | right: W01, advice in Lightning's terms
import torch, lightning as L
from torch import nn
class M(L.LightningModule):
    def __init__(s): super().__init__(); s.net = nn.Linear(20, 1)
    def training_step(s, b, i): return nn.functional.mse_loss(s.net(b[0]), b[1])
    def configure_optimizers(s): return torch.optim.SGD(s.parameters(), 1e-2)
torch.manual_seed(0)
d = torch.utils.data.TensorDataset(torch.randn(352, 20), torch.randn(352, 1))
L.Trainer(max_epochs=4, accelerator="cpu", accumulate_grad_batches=4, logger=False, enable_checkpointing=False, enable_progress_bar=False, enable_model_summary=False).fit(M(), torch.utils.data.DataLoader(d, 32))
