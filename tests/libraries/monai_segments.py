# monai: a U-Net in SupervisedTrainer with bfloat16, and an evaluator with sliding windows after each epoch
import logging

import torch
from monai.engines import SupervisedEvaluator, SupervisedTrainer
from monai.handlers import LrScheduleHandler, ValidationHandler
from monai.inferers import SlidingWindowInferer
from monai.losses import DiceCELoss
from monai.networks.nets import UNet
from reproducible import print_digest, seed_everything

logging.disable(logging.WARNING)


def images(n, size):
    return [
        {"image": torch.randn(4, 1, size, size), "label": (torch.rand(4, 1, size, size) > 0.5).float()}
        for _ in range(n)
    ]


seed_everything()
model = UNet(
    spatial_dims=2,
    in_channels=1,
    out_channels=1,
    channels=(4, 8),
    strides=(2,),
    num_res_units=1,
    norm="batch",
    dropout=0.1,
)
optimizer = torch.optim.Adam(model.parameters(), 1e-3)
cpu = torch.device("cpu")
evaluator = SupervisedEvaluator(
    device=cpu,
    val_data_loader=images(2, 32),
    network=model,
    inferer=SlidingWindowInferer((16, 16), 4, 0.25),
    decollate=False,
)
trainer = SupervisedTrainer(
    device=cpu,
    max_epochs=3,
    train_data_loader=images(8, 16),
    network=model,
    optimizer=optimizer,
    loss_function=DiceCELoss(sigmoid=True),
    train_handlers=[
        ValidationHandler(1, evaluator),
        LrScheduleHandler(torch.optim.lr_scheduler.StepLR(optimizer, 1, 0.9), print_lr=False),
    ],
    decollate=False,
)
trainer.run()
print_digest(model)
