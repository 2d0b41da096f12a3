# huggingface/transformers#47688 (Trainer, accumulation 4, a classification head) | right: W01, 4.000, advice in the Trainer's terms
import os, tempfile
os.environ["HF_HUB_OFFLINE"] = "1"
import torch
from transformers import BertConfig, BertForSequenceClassification, Trainer, TrainingArguments, set_seed
set_seed(0)
model = BertForSequenceClassification(BertConfig(vocab_size=100, hidden_size=32, num_hidden_layers=1, num_attention_heads=2, intermediate_size=64, max_position_embeddings=32, num_labels=3, hidden_dropout_prob=0.0, attention_probs_dropout_prob=0.0))
data = [dict(input_ids=torch.randint(5, 100, (16,)), labels=torch.randint(0, 3, ())) for _ in range(8 * 12)]
args = TrainingArguments(output_dir=tempfile.mkdtemp(), per_device_train_batch_size=8, gradient_accumulation_steps=4, num_train_epochs=2, report_to=[], save_strategy="no", disable_tqdm=True, use_cpu=True, dataloader_pin_memory=False, learning_rate=1e-3, optim="sgd", max_grad_norm=0.0, lr_scheduler_type="constant")
Trainer(model, args, train_dataset=data).train()
