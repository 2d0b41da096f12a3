# lightning: a GAN in manual optimization, with two optimizers that are toggled
import logging

import lightning
import torch
from reproducible import print_digest, seed_everything
from torch import nn
from torch.utils.data import DataLoader, TensorDataset

logging.getLogger("lightning.pytorch").setLevel(logging.ERROR)
adversarial_loss = nn.functional.binary_cross_entropy_with_logits


class Adversarial(lightning.LightningModule):
    def __init__(self):
        super().__init__()
        self.automatic_optimization = False
        self.generator = nn.Sequential(nn.Linear(8, 32), nn.BatchNorm1d(32), nn.ReLU(), nn.Linear(32, 10))
        self.critic = nn.Sequential(nn.Linear(10, 32), nn.LeakyReLU(0.2), nn.Dropout(0.2), nn.Linear(32, 1))

    def training_step(self, batch, number):
        (real,) = batch
        of_generator, of_critic = self.optimizers()
        noise = torch.randn(len(real), 8)
        true, false = torch.ones(len(real), 1), torch.zeros(len(real), 1)

        self.toggle_optimizer(of_generator)
        loss = adversarial_loss(self.critic(self.generator(noise)), true)
        of_generator.zero_grad()
        self.manual_backward(loss)
        of_generator.step()
        self.untoggle_optimizer(of_generator)

        self.toggle_optimizer(of_critic)
        made = self.generator(noise).detach()
        loss = (adversarial_loss(self.critic(real), true) + adversarial_loss(self.critic(made), false)) / 2
        of_critic.zero_grad()
        self.manual_backward(loss)
        self.clip_gradients(of_critic, 0.5, "norm")
        of_critic.step()
        self.untoggle_optimizer(of_critic)

    def configure_optimizers(self):
        return (
            torch.optim.Adam(self.generator.parameters(), 2e-4, betas=(0.5, 0.999)),
            torch.optim.Adam(self.critic.parameters(), 2e-4, betas=(0.5, 0.999)),
        )


seed_everything()
model = Adversarial()
trainer = lightning.Trainer(
    max_epochs=4,
    accelerator="cpu",
    logger=False,
    enable_checkpointing=False,
    enable_progress_bar=False,
    enable_model_summary=False,
)
trainer.fit(model, DataLoader(TensorDataset(torch.randn(320, 10)), 32, shuffle=True))
print_digest(model)
