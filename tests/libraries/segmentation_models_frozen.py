# segmentation_models_pytorch: a U-Net whose encoder is frozen, in evaluation mode too
import segmentation_models_pytorch as smp
import torch
from reproducible import print_digest, seed_everything


def images(n):
    return torch.randn(n, 1, 32, 32), (torch.rand(n, 1, 32, 32) > 0.5).float()


seed_everything()
model = smp.Unet(
    "resnet18", encoder_weights=None, in_channels=1, classes=1, encoder_depth=3, decoder_channels=(16, 8, 8)
)
model.encoder.requires_grad_(False)
optimizer = torch.optim.Adam([one for one in model.parameters() if one.requires_grad], 1e-3)
dice, cross_entropy = smp.losses.DiceLoss("binary"), smp.losses.SoftBCEWithLogitsLoss()
for _ in range(3):
    model.train()
    model.encoder.eval()
    for _ in range(6):
        x, y = images(4)
        optimizer.zero_grad()
        predicted = model(x)
        (dice(predicted, y) + cross_entropy(predicted, y)).backward()
        optimizer.step()
    model.eval()
    x, y = images(4)
    with torch.no_grad():
        smp.metrics.get_stats((model(x) > 0).long(), y.long(), mode="binary")
print_digest(model)
