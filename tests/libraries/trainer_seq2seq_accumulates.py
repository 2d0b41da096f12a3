# transformers: T5's loss knows no num_items_in_batch either, but its forward takes any keyword, so nobody divides
import tempfile

import torch
from reproducible import print_digest, seed_everything
from transformers import Seq2SeqTrainer, Seq2SeqTrainingArguments, T5Config, T5ForConditionalGeneration

seed_everything()
model = T5ForConditionalGeneration(
    T5Config(vocab_size=100, d_model=32, d_kv=8, d_ff=64, num_layers=2, num_heads=2, decoder_start_token_id=0)
)


def pairs(n):
    return [{"input_ids": torch.randint(2, 100, (10,)), "labels": torch.randint(2, 100, (6,))} for _ in range(n)]


with tempfile.TemporaryDirectory() as folder:
    arguments = Seq2SeqTrainingArguments(
        output_dir=folder,
        per_device_train_batch_size=8,
        gradient_accumulation_steps=2,
        num_train_epochs=2,
        learning_rate=1e-3,
        predict_with_generate=True,
        generation_max_length=6,
        eval_strategy="epoch",
        report_to=[],
        save_strategy="no",
        disable_tqdm=True,
        use_cpu=True,
    )
    trainer = Seq2SeqTrainer(model, arguments, train_dataset=pairs(96), eval_dataset=pairs(16))
    trainer.train()
print_digest(model)
