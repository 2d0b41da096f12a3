# timm: a vision transformer with mixup and accumulation; the last window has one micro-batch, and is divided by one
import timm
import torch
from reproducible import print_digest, seed_everything
from timm.data import Mixup
from timm.loss import SoftTargetCrossEntropy
from timm.optim import create_optimizer_v2
from timm.utils import NativeScaler

WINDOW, BATCHES = 4, 9

seed_everything()
model = timm.create_model(
    "vit_tiny_patch16_224", img_size=32, embed_dim=32, depth=2, num_heads=2, num_classes=4, drop_path_rate=0.1
)
optimizer = create_optimizer_v2(model, "lamb", 1e-3, weight_decay=0.05)
mixup, scaler = Mixup(0.8, label_smoothing=0.1, num_classes=4), NativeScaler(device="cpu")
loss_function = SoftTargetCrossEntropy()
for _ in range(4):
    model.train()
    for number in range(BATCHES):
        x, y = mixup(torch.randn(8, 3, 32, 32), torch.randint(0, 4, (8,)))
        is_last = number >= BATCHES - BATCHES % WINDOW
        ends = (number + 1) % WINDOW == 0 or number + 1 == BATCHES
        with torch.autocast("cpu", torch.bfloat16):
            loss = loss_function(model(x), y) / (BATCHES % WINDOW if is_last else WINDOW)
        scaler(loss, optimizer, clip_grad=1.0, parameters=model.parameters(), need_update=ends)
        if ends:
            optimizer.zero_grad()
print_digest(model)
