# pytorch-metric-learning: its trainer of a trunk and an embedder with an optimizer each, and mined triplets
import torch
from pytorch_metric_learning import losses, miners, trainers
from reproducible import print_digest, seed_everything
from torch import nn
from torch.utils.data import Dataset


class Samples(Dataset):
    def __init__(self, n):
        self.x, self.y = torch.randn(n, 20), torch.randint(0, 5, (n,))

    def __len__(self):
        return len(self.x)

    def __getitem__(self, index):
        return self.x[index], int(self.y[index])


seed_everything()
trunk, embedder = nn.Sequential(nn.Linear(20, 32), nn.ReLU()), nn.Linear(32, 8)
trainer = trainers.MetricLossOnly(
    models={"trunk": trunk, "embedder": embedder},
    optimizers={
        "trunk_optimizer": torch.optim.Adam(trunk.parameters(), 1e-3),
        "embedder_optimizer": torch.optim.Adam(embedder.parameters(), 1e-3),
    },
    batch_size=32,
    loss_funcs={"metric_loss": losses.TripletMarginLoss(0.1)},
    dataset=Samples(160),
    mining_funcs={"tuple_miner": miners.MultiSimilarityMiner(0.1)},
    dataloader_num_workers=0,
    data_device=torch.device("cpu"),
)
trainer.train(num_epochs=4)
print_digest(trunk, embedder)
