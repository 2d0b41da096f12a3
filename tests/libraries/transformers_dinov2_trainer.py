# transformers: DINOv2 under Trainer; its mask token is a parameter that only pretraining uses
import tempfile

import torch
from reproducible import print_digest, seed_everything
from transformers import Dinov2Config, Dinov2ForImageClassification, Trainer, TrainingArguments

seed_everything()
model = Dinov2ForImageClassification(
    Dinov2Config(hidden_size=32, num_hidden_layers=2, num_attention_heads=2, image_size=28, patch_size=14, num_labels=3)
)
data = [{"pixel_values": torch.randn(3, 28, 28), "labels": torch.randint(0, 3, ())} for _ in range(96)]
with tempfile.TemporaryDirectory() as folder:
    arguments = TrainingArguments(
        output_dir=folder,
        per_device_train_batch_size=8,
        num_train_epochs=2,
        learning_rate=1e-3,
        optim="adafactor",
        max_grad_norm=0.5,
        label_smoothing_factor=0.1,
        report_to=[],
        save_strategy="no",
        disable_tqdm=True,
        use_cpu=True,
    )
    Trainer(model, arguments, train_dataset=data).train()
print_digest(model)
