# sentence-transformers: GradCache computes gradients of embeddings first, and runs the model a second time
import random
import tempfile
from pathlib import Path

from datasets import Dataset
from reproducible import print_digest, seed_everything
from sentence_transformers import (
    SentenceTransformer,
    SentenceTransformerTrainer,
    SentenceTransformerTrainingArguments,
    losses,
    models,
)
from transformers import BertConfig, BertModel, BertTokenizerFast

WORDS = [f"w{number}" for number in range(80)]


def sentences(n):
    return [" ".join(random.choices(WORDS, k=8)) for _ in range(n)]


seed_everything()
with tempfile.TemporaryDirectory() as folder:
    vocabulary = Path(folder, "vocab.txt")
    vocabulary.write_text("\n".join(["[PAD]", "[UNK]", "[CLS]", "[SEP]", "[MASK]", *WORDS]))
    BertTokenizerFast(str(vocabulary)).save_pretrained(folder)
    BertModel(
        BertConfig(
            vocab_size=85,
            hidden_size=32,
            num_hidden_layers=2,
            num_attention_heads=2,
            intermediate_size=64,
            max_position_embeddings=32,
        )
    ).save_pretrained(folder)
    words = models.Transformer(folder, max_seq_length=16)
    model = SentenceTransformer(modules=[words, models.Pooling(32)], device="cpu")
    arguments = SentenceTransformerTrainingArguments(
        output_dir=folder,
        per_device_train_batch_size=8,
        num_train_epochs=2,
        learning_rate=1e-4,
        warmup_ratio=0.1,
        report_to=[],
        save_strategy="no",
        disable_tqdm=True,
        use_cpu=True,
    )
    data = Dataset.from_dict({"anchor": sentences(96), "positive": sentences(96)})
    loss = losses.CachedMultipleNegativesRankingLoss(model, mini_batch_size=4)
    SentenceTransformerTrainer(model, arguments, train_dataset=data, loss=loss).train()
    model.encode(sentences(4))
print_digest(model)
