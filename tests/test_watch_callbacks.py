"""Test the callbacks for trainers of frameworks: they say what the watch of the whole script says.

``COVLAB_LIBRARIES_PYTHON`` names a Python that has the frameworks, as for tests/test_watch_libraries.py.
"""

import json
import re
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
from test_watch_libraries import installed, run

ROOT = Path(__file__).parents[1]

TRANSFORMERS = """
import os, sys, tempfile
import torch
from transformers import BertConfig, BertForSequenceClassification, Trainer, TrainingArguments
sizes = dict(hidden_size=32, num_hidden_layers=1, num_attention_heads=2, intermediate_size=64)
model = BertForSequenceClassification(BertConfig(vocab_size=100, max_position_embeddings=32, num_labels=3, **sizes))

class Data(torch.utils.data.Dataset):
    read = 0
    def __len__(self): return 192
    def __getitem__(self, index):
        self.read += 1
        if "--fail" in sys.argv and self.read == 100: raise OSError("own error")
        return dict(input_ids=torch.randint(5, 100, (16,)), labels=torch.randint(0, 3, ()))

def make(callbacks):
    args = TrainingArguments(
        output_dir=tempfile.mkdtemp(), per_device_train_batch_size=8, gradient_accumulation_steps=4, report_to=[],
        num_train_epochs=3, save_strategy="no", disable_tqdm=True, use_cpu=True)
    return Trainer(model, args, train_dataset=Data(), callbacks=callbacks)
def train(trainer):
    trainer.train()
"""
LIGHTNING = """
import sys
import torch
from lightning.pytorch import LightningModule, Trainer
from torch import nn

class Module(LightningModule):
    def __init__(self):
        super().__init__()
        self.layer = nn.Linear(4, 2)
    def training_step(self, batch, index):
        if "--fail" in sys.argv and index == 20: raise OSError("own error")
        x, y = batch
        return nn.functional.cross_entropy(self.layer(x), y)
    def configure_optimizers(self):
        return torch.optim.SGD(self.parameters(), lr=0.1)

data = torch.utils.data.TensorDataset(torch.randn(216, 4), torch.randint(0, 2, (216,)))
def make(callbacks):
    return Trainer(
        max_epochs=4, accumulate_grad_batches=4, accelerator="cpu", callbacks=callbacks, logger=False,
        enable_checkpointing=False, enable_progress_bar=False, enable_model_summary=False)
def train(trainer):
    trainer.fit(Module(), torch.utils.data.DataLoader(data, batch_size=8))
"""
MAIN = """
if __name__ == "__main__" and "--callback" in sys.argv:
    import json
    from covlab.watch.attach.{framework} import WatchCallback, WatchFailed
    callback = WatchCallback()
    trainer = make([callback])
    try:
        train(trainer)
    except OSError as error:
        print("caught", error)
    print("ROW", json.dumps(callback.report.row()))
    sys.argv.remove("--fail") if "--fail" in sys.argv else None
    callback = WatchCallback(fail_on="fault", steps=16)
    try:
        train(make([callback]))
    except WatchFailed as failed:
        print("failed", failed.report is callback.report, failed)
else:
    train(make([]))
"""
FRAMEWORKS = {"huggingface": ("transformers", TRANSFORMERS), "lightning": ("lightning", LIGHTNING)}


@pytest.mark.slow
@pytest.mark.parametrize("framework", FRAMEWORKS)
def test_a_callback_says_what_the_watch_of_the_script_says(framework: str, tmp_path: Path) -> None:
    library, loop = FRAMEWORKS[framework]
    if library not in installed():
        pytest.skip(f"{library} is not installed")
    script, report = tmp_path / "train.py", tmp_path / "report.json"
    script.write_text(loop + MAIN.format(framework=framework))
    status, printed = run(["-m", "covlab.watch", "--quiet", "--json", str(report), str(script)], tmp_path)
    assert status == 1, printed
    wanted = json.loads(report.read_text())
    status, printed = run([str(script), "--callback"], tmp_path)
    assert status == 0, printed
    row = json.loads(re.findall("^ROW (.*)$", printed, re.MULTILINE)[0])
    assert [told(one) for one in row["findings"]] == [told(one) for one in wanted["findings"]]
    assert row["findings"][0]["code"] == "W01" and printed.count("covlab.watch: 1 fault") == 2
    assert re.search(r"failed True 1 fault; watched 16 steps .*ended after 16 steps", printed)
    status, printed = run([str(script), "--callback", "--fail"], tmp_path)
    assert "caught own error" in printed and printed.count("covlab.watch: ") == 2, printed
    assert json.loads(re.findall("^ROW (.*)$", printed, re.MULTILINE)[0])["seen"]["steps"] > 0


def told(finding: dict[str, Any]) -> list[object]:
    """Return what the reader learns: what is wrong, where, and what to do."""
    return [finding[name] for name in ("code", "verdict", "says", "fix")] + [finding["site"]["line"]]


@pytest.mark.parametrize("framework", FRAMEWORKS)
def test_without_the_framework_the_error_says_what_to_install(framework: str, tmp_path: Path) -> None:
    library, _ = FRAMEWORKS[framework]
    hidden = f"import sys; sys.modules.update(dict.fromkeys(['{library}', 'pytorch_lightning']))"
    code = f"{hidden}\nfrom covlab.watch.attach.{framework} import WatchCallback"
    ended = subprocess.run([sys.executable, "-c", code], check=False, capture_output=True, text=True, cwd=ROOT)
    assert re.match(rf"ImportError: WatchCallback needs .*{library}.*: pip install ", ended.stderr.splitlines()[-1])


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"fail_on": "error"}, "fail_on must be one of"),
        ({"steps": 0}, "steps must be a whole number"),
        ({"ignore": "W99"}, "ignore: no such code: 'W99'"),
    ],
)
def test_wrong_options_of_a_callback_are_refused_before_the_training(options: dict[str, Any], message: str) -> None:
    from covlab.watch.attach.training_watch import TrainingWatch

    with pytest.raises(ValueError, match=message):
        TrainingWatch(**options)
