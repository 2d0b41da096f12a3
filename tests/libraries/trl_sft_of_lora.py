# trl with peft: SFTTrainer trains a LoRA adapter on packed sentences, with gradient checkpointing in bfloat16
import random
import tempfile

from datasets import Dataset
from peft import LoraConfig
from reproducible import print_digest, seed_everything
from tokenizers import Tokenizer, models, pre_tokenizers
from transformers import LlamaConfig, LlamaForCausalLM, PreTrainedTokenizerFast
from trl import SFTConfig, SFTTrainer

WORDS = [f"w{number}" for number in range(80)]

seed_everything()
vocabulary = {word: number for number, word in enumerate(["<pad>", "<unk>", "<eos>", *WORDS])}
words = Tokenizer(models.WordLevel(vocabulary, unk_token="<unk>"))
words.pre_tokenizer = pre_tokenizers.Whitespace()
tokenizer = PreTrainedTokenizerFast(tokenizer_object=words, pad_token="<pad>", unk_token="<unk>", eos_token="<eos>")
model = LlamaForCausalLM(
    LlamaConfig(
        vocab_size=83,
        hidden_size=32,
        intermediate_size=64,
        num_hidden_layers=2,
        num_attention_heads=2,
        max_position_embeddings=64,
        bos_token_id=2,
        eos_token_id=2,
        pad_token_id=0,
    )
)
data = Dataset.from_dict({"text": [" ".join(random.choices(WORDS, k=random.randrange(5, 20))) for _ in range(64)]})
with tempfile.TemporaryDirectory() as folder:
    config = SFTConfig(
        output_dir=folder,
        per_device_train_batch_size=4,
        gradient_accumulation_steps=4,
        num_train_epochs=4,
        learning_rate=1e-2,
        max_length=32,
        bf16=True,
        gradient_checkpointing=True,
        report_to=[],
        save_strategy="no",
        disable_tqdm=True,
        use_cpu=True,
    )
    adapter = LoraConfig(r=4, target_modules=["q_proj", "v_proj"], task_type="CAUSAL_LM")
    trainer = SFTTrainer(model, args=config, train_dataset=data, processing_class=tokenizer, peft_config=adapter)
    trainer.train()
print_digest(trainer.model)
