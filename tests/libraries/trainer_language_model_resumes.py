# transformers: Trainer counts tokens over the window, in bfloat16 with gradient checkpointing; it resumes a checkpoint
import tempfile

import torch
from reproducible import print_digest, seed_everything
from transformers import GPT2Config, GPT2LMHeadModel, Trainer, TrainingArguments


def sentence():
    ids = torch.randint(5, 100, (20,))
    labels = ids.clone()
    labels[: int(torch.randint(0, 15, ()))] = -100  # the prompt
    return {"input_ids": ids, "labels": labels}


def make_trainer(folder, epochs):
    model = GPT2LMHeadModel(GPT2Config(vocab_size=100, n_positions=32, n_embd=32, n_layer=2, n_head=2))
    arguments = TrainingArguments(
        output_dir=folder,
        per_device_train_batch_size=4,
        gradient_accumulation_steps=4,
        num_train_epochs=epochs,
        learning_rate=1e-3,
        lr_scheduler_type="cosine",
        warmup_steps=3,
        weight_decay=0.1,
        gradient_checkpointing=True,
        bf16=True,
        eval_strategy="epoch",
        save_strategy="epoch",
        report_to=[],
        disable_tqdm=True,
        use_cpu=True,
    )
    return Trainer(model, arguments, train_dataset=training, eval_dataset=validation)


seed_everything()
training, validation = [sentence() for _ in range(4 * 11)], [sentence() for _ in range(16)]  # 11: not whole windows
with tempfile.TemporaryDirectory() as folder:
    make_trainer(folder, 3).train()
    trainer = make_trainer(folder, 6)
    trainer.train(resume_from_checkpoint=True)
    trainer.evaluate()
    trainer.predict(validation[:8])
print_digest(trainer.model)
