# trl: SFTTrainer on sentences of different length, accumulation 2
import random
import tempfile

from datasets import Dataset
from reproducible import print_digest, seed_everything
from tokenizers import Tokenizer, models, pre_tokenizers
from transformers import GPT2Config, GPT2LMHeadModel, PreTrainedTokenizerFast
from trl import SFTConfig, SFTTrainer

WORDS = [f"w{number}" for number in range(80)]

seed_everything()
vocabulary = {word: number for number, word in enumerate(["<pad>", "<unk>", "<eos>", *WORDS])}
words = Tokenizer(models.WordLevel(vocabulary, unk_token="<unk>"))
words.pre_tokenizer = pre_tokenizers.Whitespace()
tokenizer = PreTrainedTokenizerFast(tokenizer_object=words, pad_token="<pad>", unk_token="<unk>", eos_token="<eos>")
model = GPT2LMHeadModel(
    GPT2Config(vocab_size=83, n_positions=64, n_embd=32, n_layer=2, n_head=2, eos_token_id=2, pad_token_id=0)
)
data = Dataset.from_dict({"text": [" ".join(random.choices(WORDS, k=random.randrange(5, 20))) for _ in range(48)]})
with tempfile.TemporaryDirectory() as folder:
    config = SFTConfig(
        output_dir=folder,
        per_device_train_batch_size=4,
        gradient_accumulation_steps=2,
        num_train_epochs=3,
        learning_rate=1e-3,
        max_length=32,
        bf16=False,
        gradient_checkpointing=False,
        report_to=[],
        save_strategy="no",
        disable_tqdm=True,
        use_cpu=True,
    )
    SFTTrainer(model, args=config, train_dataset=data, processing_class=tokenizer).train()
print_digest(model)
