# timm: a ResNet with adaptive clipping, ModelEmaV2, label smoothing and a cosine schedule; both models are evaluated
import timm
import torch
from reproducible import print_digest, seed_everything
from timm.loss import LabelSmoothingCrossEntropy
from timm.optim import create_optimizer_v2
from timm.scheduler import CosineLRScheduler
from timm.utils import AverageMeter, ModelEmaV2, NativeScaler, accuracy


def images(n):
    return [(torch.randn(8, 3, 32, 32), torch.randint(0, 4, (8,))) for _ in range(n)]


def validate(model, batches):
    meter = AverageMeter()
    model.eval()
    with torch.no_grad():
        for x, y in batches:
            meter.update(accuracy(model(x), y)[0].item(), len(x))
    return meter.avg


seed_everything()
model = timm.create_model("resnet10t", num_classes=4, drop_rate=0.1)
optimizer = create_optimizer_v2(model, "adamw", 1e-3, weight_decay=0.05)
schedule = CosineLRScheduler(optimizer, t_initial=3, warmup_t=1, warmup_lr_init=1e-5)
average, scaler = ModelEmaV2(model, 0.99), NativeScaler(device="cpu")
loss_function = LabelSmoothingCrossEntropy(0.1)
training, validation = images(8), images(2)
updates = 0
for epoch in range(3):
    model.train()
    for x, y in training:
        loss = loss_function(model(x), y)
        optimizer.zero_grad()
        scaler(loss, optimizer, clip_grad=0.02, clip_mode="agc", parameters=model.parameters())
        average.update(model)
        updates += 1
        schedule.step_update(updates)
    schedule.step(epoch + 1)
    validate(model, validation)
    validate(average.module, validation)
print_digest(model, average.module)
