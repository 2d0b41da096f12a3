"""Loops and scripts for `covlab.watch`: an epoch to be watched, a script in a process of its own, and a Trainer."""

import os
import subprocess
import sys
import tempfile
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import torch
from torch import nn
from torch.nn.utils import parameters_to_vector

from covlab.arguments import Seed, Text, checked
from covlab.tensor_arguments import Device


@checked
def classifier(seed: Seed, device: Device) -> tuple[nn.Module, torch.optim.Optimizer]:
    """Return a small classifier of 8 numbers into 3 classes, and its AdamW."""
    torch.manual_seed(seed)
    model = nn.Sequential(nn.Linear(8, 32), nn.Tanh(), nn.Linear(32, 3)).to(device)
    return model, torch.optim.AdamW(model.parameters(), lr=1e-2)


@checked
def windows(seed: Seed, device: Device) -> list[list[tuple[torch.Tensor, torch.Tensor]]]:
    """Return five windows of four micro-batches and one of two, each (inputs [16, 8], classes [16])."""
    inputs = torch.randn(22, 16, 8, generator=torch.Generator().manual_seed(seed))
    micro_batches = [(x.to(device), x[:, :3].argmax(dim=1).to(device)) for x in inputs]
    return [micro_batches[first : first + 4] for first in range(0, 22, 4)]


@checked
def linear_model(
    seed: Seed, device: Device
) -> tuple[
    nn.Module,
    torch.optim.Optimizer,
    torch.optim.lr_scheduler.LRScheduler,
    list[tuple[torch.Tensor, torch.Tensor]],
]:
    """Return a linear model of 3 numbers, its SGD, a schedule, and 24 micro-batches (inputs [4, 3], targets [4, 1])."""
    torch.manual_seed(seed)
    model = nn.Linear(3, 1).to(device)
    optimizer = torch.optim.SGD(model.parameters(), lr=0.01)
    schedule = torch.optim.lr_scheduler.ExponentialLR(optimizer, 0.9)
    micro_batches = [(torch.randn(4, 3, device=device), torch.randn(4, 1, device=device)) for _ in range(24)]
    return model, optimizer, schedule, micro_batches


@checked
def watch_script(script: Text) -> int:
    """Save ``script`` as train.py in an empty folder, run `covlab watch train.py` there, and print what it prints.

    Returns:
        The exit status: 0, 1 if there is a fault, or 3 if the training was not seen.

    Raises:
        RuntimeError: the script or the watch failed; the message is the end of the output.
    """
    with tempfile.TemporaryDirectory() as folder:
        (Path(folder) / "train.py").write_text(script, encoding="utf-8")
        command = [sys.executable, "-m", "covlab.watch", "train.py"]
        done = subprocess.run(
            command,
            cwd=folder,
            env=os.environ | {"PYTHONIOENCODING": "utf-8"},  # else a pipe on Windows shows a sign as \\u2717
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            encoding="utf-8",
            check=False,
        )
    if done.returncode not in (0, 1, 3):
        raise RuntimeError(f"covlab watch ended with status {done.returncode}: {done.stdout.strip()[-800:]}")
    output = done.stdout.replace(f"{Path(folder).resolve()}/", "").replace(f"{folder}/", "").rstrip()
    print(f"$ covlab watch train.py\n{output}\n$ echo $?\n{done.returncode}")
    return done.returncode


@checked
def trainer_step_lengths() -> dict[str, float] | None:
    """Return how long the first step of Hugging Face's Trainer is, over that of the whole window in one batch.

    A tiny random BERT classifies sequences; the Trainer accumulates four micro-batches. One entry is for the model as
    it is, one for a model with ``accepts_loss_kwargs = False``. None if transformers or accelerate is not installed.
    """
    if find_spec("transformers") is None or find_spec("accelerate") is None:
        return None
    return {
        "as it is": _trainer_step_length(None),
        "with model.accepts_loss_kwargs = False": _trainer_step_length(False),
    }


def _trainer_step_length(accepts_loss_kwargs: bool | None) -> float:
    import transformers

    transformers.set_seed(0)
    config = transformers.BertConfig(
        vocab_size=64, hidden_size=32, num_hidden_layers=1, num_attention_heads=2, intermediate_size=64, num_labels=3,
        hidden_dropout_prob=0.0, attention_probs_dropout_prob=0.0,
    )  # fmt: skip
    model: Any = transformers.BertForSequenceClassification(config)
    if accepts_loss_kwargs is not None:
        model.accepts_loss_kwargs = accepts_loss_kwargs
    generator = torch.Generator().manual_seed(0)
    tokens, labels = torch.randint(64, (16, 8), generator=generator), torch.randint(3, (16,), generator=generator)
    before = parameters_to_vector(model.parameters()).detach().clone()
    model(input_ids=tokens, labels=labels).loss.backward()
    whole_window = torch.cat([p.grad.flatten() for p in model.parameters() if p.grad is not None]).norm()
    model.zero_grad()
    with tempfile.TemporaryDirectory() as folder:
        arguments = transformers.TrainingArguments(
            folder, per_device_train_batch_size=4, gradient_accumulation_steps=4, max_steps=1, optim="sgd",
            learning_rate=1.0, lr_scheduler_type="constant", max_grad_norm=0.0, report_to=[], use_cpu=True,
            disable_tqdm=True, save_strategy="no",
        )  # fmt: skip
        data = [{"input_ids": ids, "labels": label} for ids, label in zip(tokens, labels, strict=True)]
        transformers.Trainer(model, arguments, train_dataset=data).train()
    after = parameters_to_vector(model.parameters()).detach()
    return ((after - before).norm() / whole_window).item()
