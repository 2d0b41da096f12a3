"""Nothing lost, nothing half-written: checkpoints, resume, and processes really killed."""

import itertools
import json
import multiprocessing
import os
import random
import resource
import shutil
import signal
import tempfile
import time
from collections.abc import Callable
from functools import partial
from multiprocessing.connection import Connection
from pathlib import Path
from typing import Any

import pytest
import torch
from click.testing import CliRunner
from torch import Tensor

from covlab.cli import train
from covlab.cli.main import main
from covlab.faults import inject
from covlab.networks.model import BackProjectionNet, SnapshotConvNet
from covlab.scenes.scenario import preset
from covlab.scenes.simulator import Simulator, scene_generator
from covlab.scenes.streams import FixedScenes, FreshScenes
from covlab.training import checkpoint, run_config
from covlab.training.checkpoint import FORMAT, PARTS, CheckpointError, RunFolder, load_parameters, read_checkpoint
from covlab.training.progress import Silent
from covlab.training.recipe import Recipe
from covlab.training.trainer import Trainer

STUDENT = preset("student")
SIMULATOR = Simulator(STUDENT)
SCENES = SIMULATOR.draw(100, scene_generator(0, "test"))


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


def test_before_the_first_checkpoint_a_run_starts_from_scratch(tmp_path: Path) -> None:
    trainer(tmp_path / "whole").fit()
    (tmp_path / "empty").mkdir()
    (tmp_path / "empty" / "ledger.jsonl").write_text('{"window": 1, "los')
    trainer(tmp_path / "empty").resume().fit()
    assert_same_run(tmp_path / "empty", tmp_path / "whole")


@pytest.mark.parametrize("kept", ["previous.pt", "best.pt", "epochs.json", "ledger.jsonl"])
def test_a_run_without_its_last_checkpoint_is_not_started_over(tmp_path: Path, kept: str) -> None:
    trainer(tmp_path / "whole").fit()
    trainer(tmp_path / "hurt").fit()
    for path in list((tmp_path / "hurt").iterdir()):
        if path.name not in (kept, "previous.pt"):
            path.unlink()
    before = {path.name: path.read_bytes() for path in (tmp_path / "hurt").iterdir()}
    with pytest.raises(CheckpointError, match=r"last\.pt: no such checkpoint.*resume with previous=True"):
        trainer(tmp_path / "hurt").resume()
    with pytest.raises(FileExistsError, match=kept.replace(".", r"\.")):
        trainer(tmp_path / "hurt").fit()
    after = {path.name: path.read_bytes() for path in (tmp_path / "hurt").iterdir() if path.name != ".lock"}
    assert after == before
    if kept == "ledger.jsonl":
        trainer(tmp_path / "hurt").resume(previous=True).fit()
        assert (tmp_path / "hurt" / "ledger.jsonl").read_text() == (tmp_path / "whole" / "ledger.jsonl").read_text()


@pytest.mark.parametrize(
    "damage",
    [
        lambda rows: rows[:3] + rows[4:],
        lambda rows: [*rows[:3], *rows[2:]],
        lambda rows: [rows[1], rows[0], *rows[2:]],
        lambda rows: [*rows[:3], rows[3][:20] + "\n", *rows[4:]],
        lambda rows: [*rows[:3], "[]\n", *rows[4:]],
        lambda rows: rows[:3],
    ],
    ids=["missing", "twice", "swapped", "cut", "not a row", "short"],
)
def test_a_ledger_that_is_not_windows_1_to_n_is_refused(
    tmp_path: Path, damage: Callable[[list[str]], list[str]]
) -> None:
    trainer(tmp_path).fit()
    ledger = tmp_path / "ledger.jsonl"
    ledger.write_text("".join(damage(ledger.read_text().splitlines(keepends=True))))
    before = ledger.read_bytes()
    with pytest.raises(
        CheckpointError, match=r"ledger\.jsonl: (line \d+ must be the row of window|the checkpoint needs)"
    ):
        trainer(tmp_path).resume()
    assert ledger.read_bytes() == before


@pytest.mark.parametrize("hurt", ["value", "name", "added", "end"])
def test_a_ledger_with_another_row_than_the_run_wrote_is_refused(tmp_path: Path, hurt: str) -> None:
    trainer(tmp_path).fit()
    ledger = tmp_path / "ledger.jsonl"
    rows = [json.loads(line) for line in ledger.read_text().splitlines()]
    if hurt == "value":
        rows[1]["loss"] += 1
    elif hurt == "name":
        rows[1]["lass"] = rows[1].pop("loss")
    elif hurt == "added":
        rows[1]["more"] = 0
    ledger.write_text("\n".join(map(json.dumps, rows)) + ("" if hurt == "end" else "\n"))
    before = ledger.read_bytes()
    with pytest.raises(CheckpointError, match=r"ledger\.jsonl: its first \d+ rows were edited or damaged"):
        trainer(tmp_path).resume()
    assert ledger.read_bytes() == before


@pytest.mark.parametrize("change", [{"format": 0}, {"format": None}, {"scaler": None}], ids=str)
def test_a_checkpoint_of_another_release_is_refused(tmp_path: Path, change: dict[str, Any]) -> None:
    trainer(tmp_path).fit()
    state = read_checkpoint(tmp_path / "last.pt") | change
    torch.save(
        {name: value for name, value in state.items() if value is not None or name == "random_device"},
        tmp_path / "last.pt",
    )
    with pytest.raises(CheckpointError, match=r"last\.pt: (has format 0|not a checkpoint of this release.*missing)"):
        trainer(tmp_path).resume()


def test_a_file_system_without_hard_links_trains_as_well(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def refuse(*_: object) -> None:
        raise PermissionError(1, "Operation not permitted")

    monkeypatch.setattr("os.link", refuse)
    trainer(tmp_path / "run").fit()
    monkeypatch.undo()
    trainer(tmp_path / "whole").fit()
    assert_same_run(tmp_path / "run", tmp_path / "whole")
    ours, theirs = (read_checkpoint(tmp_path / name / "previous.pt") for name in ("run", "whole"))
    assert same(ours, theirs)


def test_what_a_killed_process_left_half_written_is_removed(tmp_path: Path) -> None:
    trainer(tmp_path).begin()
    (tmp_path / ".last.pt.4711").write_text("half")
    trainer(tmp_path).resume().fit()
    assert not list(tmp_path.glob(".*.4711"))


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


# ------------------------------------------------------------------ another number of windows


@pytest.fixture(scope="module")
def run_at_once(tmp_path_factory: pytest.TempPathFactory) -> Callable[..., tuple[Path, Trainer]]:
    """Return a function that trains a run of one setting from its first window to its last, once."""
    runs: dict[str, tuple[Path, Trainer]] = {}

    def train(fixed: bool, setting: dict[str, Any]) -> tuple[Path, Trainer]:
        key = f"{fixed} {setting}"
        if key not in runs:
            folder = tmp_path_factory.mktemp("whole") / "run"
            runs[key] = folder, trainer(folder, fixed, **setting).fit()
        return runs[key]

    return train


@pytest.fixture
def constant_schedule(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(Trainer, "learning_rate_factors", lambda self: torch.ones(self.recipe.windows + 1))


@pytest.mark.parametrize("setting", [{}, {"precision": "fp16", "optimizer": "sgd"}, {"fused": False}], ids=str)
@pytest.mark.parametrize("fixed", [True, False], ids=["fixed", "fresh"])
@pytest.mark.parametrize("first", [2, 5, 6])  # an epoch has 2 windows of fixed scenes, and 3 of fresh ones
def test_a_run_that_gets_more_windows_equals_one_that_had_them_from_the_start(
    tmp_path: Path,
    first: int,
    fixed: bool,
    setting: dict[str, Any],
    constant_schedule: None,
    run_at_once: Callable[..., tuple[Path, Trainer]],
) -> None:
    at_once, whole = run_at_once(fixed, setting)
    trainer(tmp_path / "parts", fixed, windows=first, **setting).fit()
    trainer(tmp_path / "parts", fixed, windows=first + 1, **setting).resume(extend=True).fit()
    extended = trainer(tmp_path / "parts", fixed, **setting).resume(extend=True).fit()
    assert torch.equal(extended.vector, whole.vector) and extended.history == whole.history
    ours, theirs = (read_checkpoint(folder / "last.pt") for folder in (tmp_path / "parts", at_once))
    validated_more_often = min(row["validation"] for row in whole.history) >= ours["position"].pop("best")
    theirs["position"].pop("best")
    assert same(ours, theirs) and validated_more_often
    for name in ("ledger.jsonl", "epochs.json"):
        assert (tmp_path / "parts" / name).read_text() == (at_once / name).read_text()
    config = json.loads((tmp_path / "parts" / "config.json").read_text())
    assert config.pop("extended") == [{"after": first, "windows": first + 1}, {"after": first + 1, "windows": 12}]
    assert config == json.loads((at_once / "config.json").read_text())


def test_an_extended_run_follows_the_schedule_of_its_new_number_of_windows(tmp_path: Path) -> None:
    trainer(tmp_path, windows=6).fit()
    rates = trainer(tmp_path).resume(extend=True).fit().ledger.columns()["learning_rate_head"]
    planned = trainer().fit().ledger.columns()["learning_rate_head"]
    assert rates[6:] == planned[6:] and rates[:6] == trainer(windows=6).fit().ledger.columns()["learning_rate_head"]


def test_windows_that_are_trained_cannot_be_taken_back(tmp_path: Path) -> None:
    trainer(tmp_path, windows=6).fit()
    before = {path: path.read_bytes() for path in tmp_path.iterdir()}
    with pytest.raises(ValueError, match="windows must be at least 6, which the run has trained, got 5"):
        trainer(tmp_path, windows=5).resume(extend=True)
    with pytest.raises(CheckpointError, match="ema_decay"):
        trainer(tmp_path, ema_decay=0.8).resume(extend=True)
    assert {path: path.read_bytes() for path in tmp_path.iterdir()} == before
    assert trainer(tmp_path, windows=6).resume(extend=True).fit().window == 6


def test_an_extension_that_was_cut_off_is_made_again(tmp_path: Path, constant_schedule: None) -> None:
    """Its config.json is written, and no checkpoint after that."""
    trainer(tmp_path / "whole").fit()
    trainer(tmp_path / "parts", windows=6).fit()
    trainer(tmp_path / "parts").resume(extend=True)
    config = (tmp_path / "parts" / "config.json").read_bytes()
    trainer(tmp_path / "parts").resume(extend=True).fit()
    assert (tmp_path / "parts" / "config.json").read_bytes() == config
    assert (tmp_path / "parts" / "ledger.jsonl").read_text() == (tmp_path / "whole" / "ledger.jsonl").read_text()


# ------------------------------------------------------------------ processes really killed

RUN = ["train", "--windows", "12", "--epoch", "3", "--micro-batch", "8", "--accumulation", "2", "--ema-decay", "0.9"]
RUN += ["--precision", "fp16"]
FORKS = multiprocessing.get_context("forkserver")  # one process loads torch for all that are killed here
FORKS.set_forkserver_preload([__name__, "torch._dynamo"])


def run_covlab(arguments: list[str], output: Path, prepare: Callable[[Connection], None], pipe: Connection) -> None:
    printed = os.open(output, os.O_WRONLY | os.O_CREAT | os.O_TRUNC)
    os.dup2(printed, 1)
    os.dup2(printed, 2)
    train._summary = lambda *_: None  # no test here is about the figures, which take as long as the training
    run_config.VALIDATION_SCENES = 64  # nor about the error, but only whether it is the same
    os.fsync = lambda descriptor: None  # type: ignore[assignment]  # what a killed process wrote stays without it
    prepare(pipe)
    main(arguments)


def nothing(pipe: Connection) -> None:
    pass


class Covlab:
    """A process that runs `covlab` with these arguments, after ``prepare`` with its end of a pipe."""

    def __init__(self, *arguments: object, prepare: Callable[[Connection], None] = nothing) -> None:
        self.pipe, theirs = FORKS.Pipe()
        self.printed = Path(tempfile.mkdtemp()) / "printed"
        self.process = FORKS.Process(target=run_covlab, args=([*map(str, arguments)], self.printed, prepare, theirs))
        self.process.start()
        theirs.close()  # so that reading from a process that has ended is an error and no wait

    def end(self) -> tuple[int | None, str]:
        """Wait until it ends, and no longer than it must. Return its exit status and what it printed."""
        self.pipe.close()  # a process that waits for one more word fails
        self.process.join()
        output = self.printed.read_text()
        shutil.rmtree(self.printed.parent)
        return self.process.exitcode, output


def resume(folder: Path) -> None:
    status, output = Covlab("train", "--resume", folder).end()
    assert status == 0, output


@pytest.fixture(scope="module")
def reference(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, float]:
    """An uninterrupted run, and how many seconds its training takes."""
    folder = tmp_path_factory.mktemp("reference") / "run"
    run = Covlab(*RUN, "--folder", folder)
    while not (folder / "config.json").exists() and run.process.is_alive():
        time.sleep(0.005)
    began = time.monotonic()
    status, output = run.end()
    assert status == 0, output
    return folder, time.monotonic() - began


def _kill_after(folder: Path, seconds: float) -> None:
    begun = (folder / "config.json").exists()
    seen = (folder / "ledger.jsonl").read_text() if (folder / "ledger.jsonl").exists() else None
    run = Covlab(*(["train", "--resume", folder] if begun else [*RUN, "--folder", folder]))
    while run.process.is_alive() and (
        not (folder / "last.pt").exists() or (seen is not None and (folder / "ledger.jsonl").read_text() == seen)
    ):
        time.sleep(0.005)
    time.sleep(seconds)
    run.process.kill()
    run.end()


def _survives_kills(tmp_path: Path, reference: tuple[Path, float], moments: int) -> None:
    whole, duration = reference
    dice = random.Random()
    for moment in range(moments):
        folder = tmp_path / str(moment)
        _kill_after(folder, dice.uniform(0, 0.8 * duration))
        resume(folder)
        assert_same_run(folder, whole)


def test_run_survives_sigkill(tmp_path: Path, reference: tuple[Path, float]) -> None:
    _survives_kills(tmp_path, reference, 3)


def hold(pipe: Connection) -> None:
    """Wait for word after every window, and say when a window is done and when a signal is heard."""
    honest = Trainer.train_window

    def heard(handler: Callable[[int, Any], Any], number: int, frame: Any) -> None:
        pipe.send("heard")
        handler(number, frame)

    def held(self: Trainer, window: Any) -> None:
        honest(self, window)
        for number in (signal.SIGINT, signal.SIGTERM):
            if callable(handler := signal.getsignal(number)):
                signal.signal(number, partial(heard, handler))
        pipe.send("trained")
        pipe.recv()

    Trainer.train_window = held  # type: ignore[method-assign]


def held_after_its_first_window(folder: Path) -> Covlab:
    run = Covlab(*RUN, "--folder", folder, prepare=hold)
    assert run.pipe.recv() == "trained"
    return run


def test_a_run_is_continued_by_one_process_at_a_time(tmp_path: Path, reference: tuple[Path, float]) -> None:
    folder = tmp_path / "run"
    holder = held_after_its_first_window(folder)
    before = {path.name: path.read_bytes() for path in folder.iterdir()}
    status, output = Covlab("train", "--resume", folder).end()
    assert status == 1 and "Traceback" not in output
    assert f"Error: {folder} is in use by process {holder.process.pid}: wait until it ends" in output
    assert {path.name: path.read_bytes() for path in folder.iterdir()} == before
    holder.process.kill()  # and the system releases its lock
    holder.end()
    resume(folder)
    assert_same_run(folder, reference[0])


def test_a_trainer_that_another_process_has_overtaken_is_refused(tmp_path: Path) -> None:
    trainer(tmp_path / "run", windows=12).begin()
    late = trainer(tmp_path / "run", windows=12).resume()
    trainer(tmp_path / "run", windows=12).resume().fit()
    rows = (tmp_path / "run" / "ledger.jsonl").read_text()
    with pytest.raises(CheckpointError, match="another process has continued this run; resume it again"):
        late.fit()
    assert (tmp_path / "run" / "ledger.jsonl").read_text() == rows


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT], ids=["SIGTERM", "SIGINT"])
def test_a_preempted_run_saves_and_says_how_to_continue(
    tmp_path: Path, reference: tuple[Path, float], number: signal.Signals
) -> None:
    folder = tmp_path / "run"
    run = held_after_its_first_window(folder)
    assert run.process.pid is not None
    os.kill(run.process.pid, number)
    assert run.pipe.recv() == "heard"
    run.pipe.send("go on")
    status, output = run.end()
    assert status == 130 and "Interrupted after window 1 of 12" in output
    assert f"covlab train --resume {folder}" in output
    assert read_checkpoint(folder / "last.pt")["position"]["window"] == 1
    resume(folder)
    assert_same_run(folder, reference[0])


def test_a_second_interrupt_says_how_to_continue(tmp_path: Path, reference: tuple[Path, float]) -> None:
    folder = tmp_path / "run"
    run = held_after_its_first_window(folder)
    assert run.process.pid is not None
    for _ in range(2):
        os.kill(run.process.pid, signal.SIGINT)
        assert run.pipe.recv() == "heard"
    status, output = run.end()
    assert status == 1 and "Traceback" not in output
    assert f"to continue from the last checkpoint: covlab train --resume {folder}" in output
    resume(folder)
    assert_same_run(folder, reference[0])


@pytest.mark.slow
def test_run_survives_sigkill_at_many_moments(tmp_path: Path, reference: tuple[Path, float]) -> None:
    _survives_kills(tmp_path, reference, 20)


@pytest.mark.slow
def test_run_survives_being_killed_again_and_again(tmp_path: Path, reference: tuple[Path, float]) -> None:
    whole, duration = reference
    dice = random.Random()
    for _ in range(6):
        _kill_after(tmp_path / "run", dice.uniform(0, 0.3 * duration))
    resume(tmp_path / "run")
    assert_same_run(tmp_path / "run", whole)


def kill_during_save(number: int, pipe: Connection) -> None:
    honest, saves = checkpoint._save, itertools.count(1)

    def half_a_save(state: dict[str, Any], path: Path) -> None:
        honest(state, path)
        if next(saves) == number:
            os.truncate(path, os.path.getsize(path) // 2)
            os.kill(os.getpid(), signal.SIGKILL)

    checkpoint._save = half_a_save


@pytest.mark.parametrize("number", range(1, 10))  # a run saves at its begin, and twice for each of its four epochs
def test_run_survives_sigkill_during_a_save(tmp_path: Path, reference: tuple[Path, float], number: int) -> None:
    folder = tmp_path / "run"
    status, output = Covlab(*RUN, "--folder", folder, prepare=partial(kill_during_save, number)).end()
    assert status == -signal.SIGKILL, output
    resume(folder)
    assert_same_run(folder, reference[0])


def limit_files(pipe: Connection) -> None:
    resource.setrlimit(resource.RLIMIT_FSIZE, (9000, 9000))


def test_a_full_disk_is_named_and_costs_no_checkpoint(tmp_path: Path, reference: tuple[Path, float]) -> None:
    """A limit on the size of a file fails where a full disk does: in the middle of a write."""
    folder = tmp_path / "a run"
    _kill_after(folder, 0)
    before = {path.name: path.read_bytes() for path in folder.glob("*.*") if not path.name.startswith(".")}
    status, output = Covlab("train", "--resume", folder, prepare=limit_files).end()
    assert status == 1 and "Traceback" not in output
    assert "\nError: File too large: " in output
    assert output.endswith(f"to resume from the last checkpoint: covlab train --resume '{folder}'\n")
    assert before["last.pt"] in [path.read_bytes() for path in folder.glob("*.pt")]
    resume(folder)
    assert_same_run(folder, reference[0])


@pytest.mark.parametrize(
    "edit",
    [
        lambda config: config | {"recipe": 3},
        lambda config: config | {"network": "Nothing"},
        lambda config: config | {"scenes": {}},
        lambda config: config | {"width": "wide"},
        lambda config: {name: value for name, value in config.items() if name != "ranks"},
        lambda config: [config],
    ],
    ids=["recipe", "network", "scenes", "width", "ranks", "list"],
)
def test_an_edited_configuration_is_refused(
    tmp_path: Path, reference: tuple[Path, float], edit: Callable[[dict[str, Any]], object]
) -> None:
    folder = tmp_path / "run"
    shutil.copytree(reference[0], folder)
    config = json.loads((folder / "config.json").read_text())
    (folder / "config.json").write_text(json.dumps(edit(config)))
    refused = CliRunner().invoke(main, ["train", "--resume", str(folder)])
    assert refused.exit_code == 1 and isinstance(refused.exception, SystemExit)
    assert refused.stderr.startswith(f"Error: {folder / 'config.json'} was edited or damaged: ")


def test_folder_keeps_a_whole_checkpoint_at_every_moment(tmp_path: Path) -> None:
    folder, state = RunFolder(tmp_path), dict.fromkeys(PARTS, 0) | {"format": FORMAT}
    folder.begin({})
    for number in range(3):
        folder.save_last(state | {"position": number})
    assert folder.load() == state | {"position": 2} and folder.load(previous=True) == state | {"position": 1}
    assert sorted(path.name for path in tmp_path.iterdir()) == ["config.json", "last.pt", "ledger.jsonl", "previous.pt"]
