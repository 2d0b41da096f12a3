# diffusers: a UNet that predicts noise, with Accelerate, an average of its weights, and samples after each epoch
import torch
import torch.nn.functional as F
from accelerate import Accelerator
from diffusers import DDPMScheduler, UNet2DModel
from diffusers.optimization import get_cosine_schedule_with_warmup
from diffusers.training_utils import EMAModel
from reproducible import print_digest, seed_everything
from torch.utils.data import DataLoader

seed_everything()
accelerator = Accelerator(cpu=True, gradient_accumulation_steps=4)
model = UNet2DModel(
    sample_size=8,
    in_channels=1,
    out_channels=1,
    block_out_channels=(8, 16),
    layers_per_block=1,
    norm_num_groups=4,
    down_block_types=("DownBlock2D", "AttnDownBlock2D"),
    up_block_types=("AttnUpBlock2D", "UpBlock2D"),
    dropout=0.1,
)
noise_schedule, average = DDPMScheduler(50), EMAModel(model.parameters(), decay=0.99)
optimizer = torch.optim.AdamW(model.parameters(), 1e-3)
schedule = get_cosine_schedule_with_warmup(optimizer, 4, 20)
loader = DataLoader(torch.randn(32, 1, 8, 8), 4, shuffle=True)
model, optimizer, loader, schedule = accelerator.prepare(model, optimizer, loader, schedule)
for _ in range(5):
    model.train()
    for images in loader:
        with accelerator.accumulate(model):
            noise = torch.randn_like(images)
            times = torch.randint(0, 50, (len(images),))
            predicted = model(noise_schedule.add_noise(images, noise, times), times).sample
            losses = F.mse_loss(predicted, noise, reduction="none").mean((1, 2, 3))
            accelerator.backward(losses.mean())
            if accelerator.sync_gradients:
                accelerator.clip_grad_norm_(model.parameters(), 1.0)
            optimizer.step()
            schedule.step()
            optimizer.zero_grad()
        if accelerator.sync_gradients:
            average.step(model.parameters())
    model.eval()
    average.store(model.parameters())
    average.copy_to(model.parameters())
    with torch.no_grad():
        images = torch.randn(2, 1, 8, 8)
        noise_schedule.set_timesteps(4)
        for time in noise_schedule.timesteps:
            images = noise_schedule.step(model(images, time).sample, time, images).prev_sample
    average.restore(model.parameters())
print_digest(model)
