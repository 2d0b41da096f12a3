"""Nothing lost, nothing half-written: checkpoints, resume, and processes really killed."""

import json
import random
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor

from covlab.faults import inject
from covlab.networks.model import BackProjectionNet, SnapshotConvNet
from covlab.scenes.scenario import preset
from covlab.scenes.simulator import Simulator, scene_generator
from covlab.scenes.streams import FixedScenes, FreshScenes
from covlab.training.checkpoint import CheckpointError, RunFolder, load_parameters, read_checkpoint
from covlab.training.progress import Silent
from covlab.training.recipe import Recipe
from covlab.training.trainer import Trainer

STUDENT = preset("student")
SIMULATOR = Simulator(STUDENT)
SCENES = SIMULATOR.draw(100, scene_generator(0, "test"))
COVLAB = [sys.executable, "-m", "covlab"]


def trainer(folder: Path | None = None, fixed: bool = True, **recipe: Any) -> Trainer:
    torch.manual_seed(0)
    model = BackProjectionNet(STUDENT, beams=16, width=16, rank=2)
    scenes = FixedScenes(SCENES, 16, seed=0) if fixed else FreshScenes(SIMULATOR, 8, 9, seed=0)
    chosen = Recipe(**({"windows": 12, "warmup": 3, "ema_decay": 0.9} | recipe))
    return Trainer(model, scenes, SCENES[:16], chosen, folder=folder, progress=Silent())


def same(a: Any, b: Any) -> bool:
    """Equal to the bit, tensors and all, through dicts and lists."""
    if isinstance(a, torch.Tensor):
        return torch.equal(a, b)
    if isinstance(a, dict):
        return a.keys() == b.keys() and all(same(a[key], b[key]) for key in a)
    if isinstance(a, list | tuple):
        return len(a) == len(b) and all(map(same, a, b))
    return a == b


def assert_same_run(folder: Path, reference: Path) -> None:
    ours, theirs = (read_checkpoint(path / "last.pt") for path in (folder, reference))
    for part in theirs:
        assert same(ours[part], theirs[part]), part
    assert (folder / "ledger.jsonl").read_text() == (reference / "ledger.jsonl").read_text()
    assert (folder / "epochs.json").read_text() == (reference / "epochs.json").read_text()
    assert same(read_checkpoint(folder / "best.pt"), read_checkpoint(reference / "best.pt"))


@pytest.mark.parametrize("fixed", [True, False], ids=["fixed", "fresh"])
@pytest.mark.parametrize("setting", [{}, {"precision": "fp16", "optimizer": "sgd"}, {"fused": False}], ids=str)
def test_resumed_run_equals_an_uninterrupted_one(
    tmp_path: Path, fixed: bool, setting: dict[str, Any], monkeypatch: pytest.MonkeyPatch
) -> None:
    trainer(tmp_path / "whole", fixed, **setting).fit()
    for stop in (1, 5, 7):  # within the first epoch, and in the middle of later ones
        folder = tmp_path / str(stop)
        part = trainer(folder, fixed, **setting)
        honest = part.log_window

        def stop_after(
            *args: Any, honest: Callable[..., None] = honest, part: Trainer = part, stop: int = stop
        ) -> None:
            honest(*args)
            if part.window == stop:
                signal.raise_signal(signal.SIGINT)

        monkeypatch.setattr(part, "log_window", stop_after)
        part.fit()
        assert part.window == stop and len(part.ledger.rows) == stop
        trainer(folder, fixed, **setting).resume().fit()
        assert_same_run(folder, tmp_path / "whole")


def test_interrupted_trainer_goes_on_in_the_same_process(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    part = trainer(tmp_path / "part")
    honest = part.gate

    def interrupted(norm: Tensor) -> Tensor:
        signal.raise_signal(signal.SIGINT)
        return honest(norm)

    monkeypatch.setattr(part, "gate", interrupted)
    before = signal.getsignal(signal.SIGINT)
    part.fit()
    assert part.window == 1 and signal.getsignal(signal.SIGINT) is before
    assert torch.isfinite(part.evaluate()).all()
    monkeypatch.setattr(part, "gate", honest)
    part.fit()
    trainer(tmp_path / "whole").fit()
    assert_same_run(tmp_path / "part", tmp_path / "whole")


def test_second_interrupt_interrupts_at_once(monkeypatch: pytest.MonkeyPatch) -> None:
    run = trainer()

    def interrupted_twice(norm: Tensor) -> None:
        signal.raise_signal(signal.SIGINT)
        signal.raise_signal(signal.SIGINT)

    monkeypatch.setattr(run, "gate", interrupted_twice)
    with pytest.raises(KeyboardInterrupt):
        run.fit()


def test_best_is_what_was_validated(tmp_path: Path) -> None:
    run = trainer(tmp_path, learning_rate=0.05).fit()
    model = BackProjectionNet(STUDENT, beams=16, width=16, rank=2)
    load_parameters(model, tmp_path / "best.pt")
    scores = model.eval()(*(getattr(SCENES[:16], name) for name in ("y", "H", "codes", "snr_db"))).nmse(SCENES[:16])
    assert scores.mean().item() == pytest.approx(min(row["validation"] for row in run.history), rel=1e-6)
    assert run.average is not None and not torch.equal(run.average, run.vector)


def test_before_the_first_checkpoint_a_run_starts_anew(tmp_path: Path) -> None:
    trainer(tmp_path / "whole").fit()
    (tmp_path / "empty").mkdir()
    (tmp_path / "empty" / "ledger.jsonl").write_text('{"window": 1, "los')
    trainer(tmp_path / "empty").resume().fit()
    assert_same_run(tmp_path / "empty", tmp_path / "whole")


def test_checkpoint_from_before_the_first_window_is_resumed(tmp_path: Path) -> None:
    trainer(tmp_path / "whole").fit()
    trainer(tmp_path / "killed").begin()
    trainer(tmp_path / "killed").resume().fit()
    assert_same_run(tmp_path / "killed", tmp_path / "whole")


def damage_inside(path: Path) -> None:
    content = bytearray(path.read_bytes())
    middle = len(content) // 2
    # wider than any padding
    content[middle : middle + 256] = bytes(byte ^ 1 for byte in content[middle : middle + 256])
    path.write_bytes(content)


@pytest.mark.parametrize(
    "damage",
    [
        damage_inside,
        lambda path: path.write_bytes(path.read_bytes()[:-1000]),
        lambda path: path.write_bytes(b""),
        lambda path: path.write_text("no"),
    ],
    ids=["inside", "truncated", "empty", "another file"],
)
def test_damaged_checkpoint_is_refused_and_the_one_before_is_at_hand(
    tmp_path: Path, damage: Callable[[Path], object]
) -> None:
    trainer(tmp_path / "whole").fit()
    trainer(tmp_path / "hurt").fit()
    damage(tmp_path / "hurt" / "last.pt")
    with pytest.raises(CheckpointError, match=r"last\.pt: damaged.*resume with previous=True"):
        trainer(tmp_path / "hurt").resume()
    trainer(tmp_path / "hurt").resume(previous=True).fit()
    assert_same_run(tmp_path / "hurt", tmp_path / "whole")


def test_a_folder_that_holds_a_run_is_not_overwritten(tmp_path: Path) -> None:
    trainer(tmp_path).fit()
    before = (tmp_path / "last.pt").read_bytes()
    with pytest.raises(FileExistsError, match="already holds a run"):
        trainer(tmp_path).fit()
    assert (tmp_path / "last.pt").read_bytes() == before


def test_a_run_of_other_settings_is_refused_by_name(tmp_path: Path) -> None:
    trainer(tmp_path).fit()
    with pytest.raises(CheckpointError, match=r"recipe\.windows: saved 12, now 20"):
        trainer(tmp_path, windows=20).resume()
    with pytest.raises(CheckpointError, match=r"scenes\.kind"):
        trainer(tmp_path, fixed=False).resume()


def test_buggy_checkpoints_are_refused_by_clean_runs(tmp_path: Path) -> None:
    with inject("missing_division"):
        trainer(tmp_path).fit()
        trainer(tmp_path).resume()  # by the same fault it may be taken up
    assert all(row["buggy"] for row in map(json.loads, (tmp_path / "ledger.jsonl").open()))
    with pytest.raises(CheckpointError, match="BUG, made with the fault missing_division"):
        trainer(tmp_path).resume()
    with pytest.raises(CheckpointError, match="BUG, made with the fault missing_division"):
        load_parameters(trainer().model, tmp_path / "best.pt")
    trainer(tmp_path).resume(allow_faults=True)
    load_parameters(trainer().model, tmp_path / "best.pt", allow_faults=True)


def test_refusals_name_the_file(tmp_path: Path) -> None:
    trainer(tmp_path).fit()
    with pytest.raises(CheckpointError, match="nowhere.pt: no such checkpoint"):
        load_parameters(trainer().model, tmp_path / "nowhere.pt")
    with pytest.raises(CheckpointError, match="best.pt: from another network than SnapshotConvNet"):
        load_parameters(SnapshotConvNet(STUDENT), tmp_path / "best.pt")
    with pytest.raises(ValueError, match="folder must name the run to resume"):
        trainer().resume()


# ------------------------------------------------------------------ processes really killed

RUN = ["train", "--windows", "30", "--epoch", "3", "--micro-batch", "16", "--ema-decay", "0.9", "--precision", "fp16"]


def covlab(*arguments: object, **options: Any) -> subprocess.CompletedProcess[str]:
    return subprocess.run([*COVLAB, *map(str, arguments)], check=True, capture_output=True, text=True, **options)


@pytest.fixture(scope="module")
def reference(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, float]:
    """An uninterrupted run, and how many seconds its training takes."""
    folder = tmp_path_factory.mktemp("reference") / "run"
    process = subprocess.Popen([*COVLAB, *RUN, "--folder", str(folder)], stdout=subprocess.DEVNULL)
    began = _wait_for(folder / "config.json", process)
    assert process.wait() == 0
    return folder, time.monotonic() - began


def _wait_for(path: Path, process: subprocess.Popen[bytes]) -> float:
    while not path.exists() and process.poll() is None:
        time.sleep(0.005)
    return time.monotonic()


def _kill_after(folder: Path, seconds: float) -> None:
    arguments = (
        ["train", "--resume", str(folder)] if (folder / "config.json").exists() else [*RUN, "--folder", str(folder)]
    )
    seen = len((folder / "ledger.jsonl").read_text()) if (folder / "ledger.jsonl").exists() else None
    process = subprocess.Popen([*COVLAB, *arguments], stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
    while process.poll() is None and (
        not (folder / "last.pt").exists() or (seen is not None and len((folder / "ledger.jsonl").read_text()) == seen)
    ):
        time.sleep(0.005)
    time.sleep(seconds)
    process.kill()
    process.wait()


def _survives_kills(tmp_path: Path, reference: tuple[Path, float], moments: int) -> None:
    whole, duration = reference
    dice = random.Random()
    for moment in range(moments):
        folder = tmp_path / str(moment)
        _kill_after(folder, dice.uniform(0, 0.8 * duration))
        covlab("train", "--resume", folder)
        assert_same_run(folder, whole)


def test_run_survives_sigkill(tmp_path: Path, reference: tuple[Path, float]) -> None:
    _survives_kills(tmp_path, reference, 3)


@pytest.mark.slow
def test_run_survives_sigkill_at_many_moments(tmp_path: Path, reference: tuple[Path, float]) -> None:
    _survives_kills(tmp_path, reference, 20)


@pytest.mark.slow
def test_run_survives_being_killed_again_and_again(tmp_path: Path, reference: tuple[Path, float]) -> None:
    whole, duration = reference
    dice = random.Random()
    for _ in range(6):
        _kill_after(tmp_path / "run", dice.uniform(0, 0.3 * duration))
    covlab("train", "--resume", tmp_path / "run")
    assert_same_run(tmp_path / "run", whole)


KILLED_WHILE_SAVING = """
import os, signal, sys, torch
import covlab.training.checkpoint as checkpoint
honest, left = torch.save, int(sys.argv.pop(1))

def half_a_save(state, path):
    global left
    left -= 1
    honest(state, path)
    if left == 0:
        os.truncate(path, os.path.getsize(path) // 2)
        os.kill(os.getpid(), signal.SIGKILL)

torch.save = half_a_save
from covlab.cli.main import main
main()
"""


@pytest.mark.parametrize(
    "save", [1, 2, 3, pytest.param(8, marks=pytest.mark.slow), pytest.param(21, marks=pytest.mark.slow)]
)
def test_run_survives_sigkill_during_a_save(tmp_path: Path, reference: tuple[Path, float], save: int) -> None:
    folder = tmp_path / "run"
    process = subprocess.run(
        [sys.executable, "-c", KILLED_WHILE_SAVING, str(save), *RUN, "--folder", str(folder)],
        check=False,
        capture_output=True,
    )
    assert process.returncode == -signal.SIGKILL
    covlab("train", "--resume", folder)
    assert_same_run(folder, reference[0])


def test_folder_keeps_a_whole_checkpoint_at_every_moment(tmp_path: Path) -> None:
    folder = RunFolder(tmp_path)
    folder.begin({})
    for number in range(3):
        folder.save_last({"number": number})
    assert folder.load() == {"number": 2} and folder.load(previous=True) == {"number": 1}
    assert sorted(path.name for path in tmp_path.iterdir()) == ["config.json", "last.pt", "ledger.jsonl", "previous.pt"]
