# huggingface/transformers#47688: a Trainer that accumulates four micro-batches of a classifier does not divide the loss
import tempfile

import torch
from reproducible import print_digest, seed_everything
from transformers import BertConfig, BertForSequenceClassification, Trainer, TrainerCallback, TrainingArguments

RATE, BATCH, WINDOW = 1e-3, 8, 4


class FirstStep(TrainerCallback):
    """Compare the first step with one on all samples of its window at once: here, the whole training set."""

    def __init__(self, model, data):
        super().__init__()
        loss = model(**{name: torch.stack([sample[name] for sample in data]) for name in data[0]}).loss
        gradients = torch.autograd.grad(loss, [one for one in model.parameters() if one.requires_grad])
        self.wanted = RATE * torch.cat([one.flatten() for one in gradients]).norm()
        self.before = torch.nn.utils.parameters_to_vector(model.parameters()).detach()

    def on_step_end(self, args, state, control, model, **_):
        if state.global_step == 1:
            moved = torch.nn.utils.parameters_to_vector(model.parameters()).detach() - self.before
            print(f"first step {moved.norm() / self.wanted:.3f} times as long as on the whole window at once")


seed_everything()
model = BertForSequenceClassification(
    BertConfig(
        vocab_size=100,
        hidden_size=32,
        num_hidden_layers=1,
        num_attention_heads=2,
        intermediate_size=64,
        max_position_embeddings=32,
        num_labels=3,
        hidden_dropout_prob=0.0,
        attention_probs_dropout_prob=0.0,
    )
)
data = [{"input_ids": torch.randint(5, 100, (16,)), "labels": torch.randint(0, 3, ())} for _ in range(BATCH * WINDOW)]
with tempfile.TemporaryDirectory() as folder:
    arguments = TrainingArguments(
        output_dir=folder,
        per_device_train_batch_size=BATCH,
        gradient_accumulation_steps=WINDOW,
        num_train_epochs=12,
        learning_rate=RATE,
        optim="sgd",
        lr_scheduler_type="constant",
        max_grad_norm=0.0,
        report_to=[],
        save_strategy="no",
        disable_tqdm=True,
        use_cpu=True,
    )
    Trainer(model, arguments, train_dataset=data, callbacks=[FirstStep(model, data)]).train()
print_digest(model)
