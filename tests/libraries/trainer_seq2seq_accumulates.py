# transformers: T5's loss knows no num_items_in_batch either, but its forward takes any keyword, so nobody divides
import tempfile

import torch
from reproducible import print_digest, seed_everything
from transformers import (
    Seq2SeqTrainer,
    Seq2SeqTrainingArguments,
    T5Config,
    T5ForConditionalGeneration,
    TrainerCallback,
)

RATE, BATCH, WINDOW = 1e-2, 8, 2


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
model = T5ForConditionalGeneration(
    T5Config(
        vocab_size=100,
        d_model=32,
        d_kv=8,
        d_ff=64,
        num_layers=2,
        num_heads=2,
        dropout_rate=0.0,
        decoder_start_token_id=0,
    )
)


def pairs(n):
    return [{"input_ids": torch.randint(2, 100, (10,)), "labels": torch.randint(2, 100, (6,))} for _ in range(n)]


with tempfile.TemporaryDirectory() as folder:
    arguments = Seq2SeqTrainingArguments(
        output_dir=folder,
        per_device_train_batch_size=BATCH,
        gradient_accumulation_steps=WINDOW,
        num_train_epochs=12,
        learning_rate=RATE,
        optim="sgd",
        lr_scheduler_type="constant",
        max_grad_norm=0.0,
        predict_with_generate=True,
        generation_max_length=6,
        eval_strategy="steps",
        eval_steps=6,
        report_to=[],
        save_strategy="no",
        disable_tqdm=True,
        use_cpu=True,
    )
    data = pairs(BATCH * WINDOW)
    trainer = Seq2SeqTrainer(
        model, arguments, train_dataset=data, eval_dataset=pairs(8), callbacks=[FirstStep(model, data)]
    )
    trainer.train()
print_digest(model)
