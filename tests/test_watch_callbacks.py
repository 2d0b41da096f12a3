"""Test the callbacks for trainers of frameworks: they say what the watch of the whole script says.

``COVLAB_LIBRARIES_PYTHON`` names a Python that has the frameworks, as for tests/test_watch_libraries.py.
"""

import json
import re
import subprocess
import sys
from collections.abc import Callable
from contextlib import ExitStack
from pathlib import Path
from typing import Any

import pytest
import torch
from test_watch_libraries import installed, run
from torch import nn

from covlab.watch import TITLES, watch
from covlab.watch.attach.training_watch import TrainingWatch, WatchFailed
from covlab.watch.seen.observer import Observer

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
    with pytest.raises(ValueError, match=message):
        TrainingWatch(**options)


def train(training: TrainingWatch, steps: int = 60) -> int:
    """Train with a fault, as a framework does that asks the callback after each step; return the number of steps."""
    model = nn.Linear(4, 2)
    optimizer = torch.optim.SGD(model.parameters(), lr=0.1)
    training.begin()
    for number in range(1, steps + 1):
        nn.functional.cross_entropy(model(torch.randn(8, 4)), torch.ones(8, dtype=torch.long)).backward()
        optimizer.step()
        if training.has_enough():
            return number
    return steps


@pytest.mark.parametrize(
    ("options", "steps", "ended"),
    [
        ({}, 60, None),
        ({"steps": 7}, 7, "ended after 7 steps of SGD"),
        ({"stop_on": "fault"}, 20, "ended after 20 steps, because of the fault W18"),
    ],
)
def test_a_training_is_asked_to_end_and_not_interrupted(options: dict[str, Any], steps: int, ended: str | None) -> None:
    training = TrainingWatch("fault", **options)
    assert train(training) == steps
    with pytest.raises(WatchFailed) as failed:
        training.end_or_fail()
    assert failed.value.report is training.report and failed.value.report.ended == ended


def fail(*_: object) -> None:
    raise ZeroDivisionError("of the watch")


def stop_and_fail(observer: Observer, stop: Callable[[Observer], None] = Observer.stop) -> None:
    stop(observer)  # or what it has replaced in PyTorch would stay replaced in the tests after this one
    fail()


BROKEN = {
    "another watch": "another watch is active",
    "a ledger without a folder": "No such file or directory",
    "it cannot begin": "of the watch",
    "it cannot end": "of the watch",
    "it cannot judge": "of the watch",
}


@pytest.mark.parametrize("name", BROKEN)
def test_a_watch_that_fails_never_ends_the_training(
    name: str, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    options = {"ledger": "nowhere/ledger.jsonl"} if "ledger" in name else {}
    training = TrainingWatch("unseen", **options)
    with ExitStack() as others, monkeypatch.context() as patch:
        if name == "another watch":
            others.enter_context(watch())
        if name == "it cannot begin":
            patch.setattr(Observer, "start", fail)
        if name == "it cannot end":
            patch.setattr(Observer, "stop", stop_and_fail)
        if name == "it cannot judge":
            patch.setattr(watch, "_judge", fail)
        assert train(training, 8) == 8
        training.end()
    report = training.report
    assert (
        report is not None
        and [finding.code for finding in report.flat] == ["W00"]
        and report.unchecked.keys() == TITLES.keys()
    )
    assert BROKEN[name] in report.flat[0].says and BROKEN[name] in capsys.readouterr().err
    with pytest.raises(WatchFailed):
        training.end_or_fail()
    with watch() as w:  # nothing of the failed one is left
        pass
    assert w.report().blind_spot is not None


def test_a_training_that_fails_is_reported_with_its_exception(capsys: pytest.CaptureFixture[str]) -> None:
    training = TrainingWatch()
    train(training, 8)
    training.end(error=OSError("own error"))
    training.end()
    assert training.report is not None and training.report.ended == "ended by OSError"
    assert capsys.readouterr().err.count("covlab.watch: ") == 1


LIGHTNING_USES = (
    LIGHTNING
    + """
from covlab.watch import watch
from covlab.watch.attach.lightning import WatchCallback, WatchFailed
def fitted(*callbacks, **options):
    try:
        Trainer(**({"max_epochs": 4} | options), accelerator="cpu", callbacks=list(callbacks), logger=False,
            enable_checkpointing=False, enable_progress_bar=False, enable_model_summary=False,
        ).fit(Module(), torch.utils.data.DataLoader(data, batch_size=8))
        return "trained"
    except WatchFailed as failed:
        return f"failed: {failed}"
one = WatchCallback(fail_on="fault")
print("1", fitted(one, max_epochs=0))
print("2", fitted(WatchCallback(), WatchCallback()))
print("3", fitted(one))
print("4", fitted(one, limit_train_batches=0))
with watch(): print("5", fitted(WatchCallback()))
print("6", fitted(WatchCallback(ledger="nowhere/x")))
alone = WatchCallback()
Module.validation_step = lambda self, batch, index: None
Trainer(accelerator="cpu", callbacks=[alone], logger=False, enable_progress_bar=False).validate(
    Module(), torch.utils.data.DataLoader(data, batch_size=8))
print("7", alone.report)
with watch(): print("8 free")
"""
)
TRANSFORMERS_USES = (
    TRANSFORMERS
    + """
from covlab.watch import watch
from covlab.watch.attach.huggingface import WatchCallback, WatchFailed
def trained(*callbacks):
    trainer = make(list(callbacks))
    try:
        trainer.train()
    except WatchFailed as failed:
        return f"failed: {failed}"
    return f"{trainer.state.global_step} steps"
print("1", trained(WatchCallback(ledger="nowhere/x")))
print("2", trained(WatchCallback(), WatchCallback()))
with watch(): print("3", trained(WatchCallback()))
print("4", trained(WatchCallback(fail_on="unseen", steps=2)))
with watch(): print("5 free")
"""
)


@pytest.mark.slow
def test_a_fit_of_lightning_goes_on_whatever_happens_to_its_watch(tmp_path: Path) -> None:
    printed = uses("lightning", LIGHTNING_USES, tmp_path)
    assert printed["1"].startswith("failed: no training was seen") and printed["4"].startswith("failed: no training")
    assert [printed[number] for number in "2356"] == ["trained"] * 4
    assert printed["7"] == "None" and printed["8"] == "free"


@pytest.mark.slow
def test_a_trainer_of_transformers_goes_on_whatever_happens_to_its_watch(tmp_path: Path) -> None:
    printed = uses("transformers", TRANSFORMERS_USES, tmp_path)
    assert [printed[number] for number in "1234"] == ["18 steps"] * 3 + ["2 steps"] and printed["5"] == "free"


def uses(library: str, code: str, folder: Path) -> dict[str, str]:
    """Return what the script prints after the number at the begin of each line."""
    if library not in installed():
        pytest.skip(f"{library} is not installed")
    (folder / "train.py").write_text(code)
    status, printed = run([str(folder / "train.py")], folder)
    assert status == 0, printed
    return dict(re.findall(r"^(\d) (.*)$", printed, re.MULTILINE))
