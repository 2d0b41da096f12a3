# transformers: an own loop with an own head on BERT's last hidden state; nothing uses the pooler
import torch
import torch.nn.functional as F
from reproducible import print_digest, seed_everything
from torch import nn
from transformers import BertConfig, BertModel, get_linear_schedule_with_warmup

seed_everything()
config = BertConfig(
    vocab_size=100,
    hidden_size=32,
    num_hidden_layers=2,
    num_attention_heads=2,
    intermediate_size=64,
    max_position_embeddings=32,
)
bert, head = BertModel(config), nn.Linear(32, 3)
optimizer = torch.optim.AdamW(
    [{"params": bert.parameters(), "lr": 1e-4}, {"params": head.parameters(), "lr": 1e-3}], weight_decay=0.01
)
schedule = get_linear_schedule_with_warmup(optimizer, 4, 48)
for _ in range(3):
    bert.train()
    for _ in range(16):
        ids, labels = torch.randint(0, 100, (8, 12)), torch.randint(0, 3, (8,))
        loss = F.cross_entropy(head(bert(ids).last_hidden_state[:, 0]), labels)
        optimizer.zero_grad()
        loss.backward()
        nn.utils.clip_grad_norm_([*bert.parameters(), *head.parameters()], 1.0)
        optimizer.step()
        schedule.step()
    bert.eval()
    with torch.no_grad():
        head(bert(torch.randint(0, 100, (8, 12))).last_hidden_state[:, 0]).argmax(1)
print_digest(bert, head)
