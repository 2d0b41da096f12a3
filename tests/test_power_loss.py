"""A run survives a power loss: what was not synced may be gone, and the rest still resumes to the same bits."""

import os
import stat
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest
import torch

from covlab.networks.model import BackProjectionNet
from covlab.scenes.scenario import preset
from covlab.scenes.simulator import Simulator, scene_generator
from covlab.scenes.streams import FixedScenes
from covlab.training.checkpoint import CheckpointError, RunFolder, read_checkpoint
from covlab.training.ledger import Ledger
from covlab.training.progress import Silent
from covlab.training.recipe import Recipe
from covlab.training.trainer import Trainer

STUDENT = preset("student")
SCENES = Simulator(STUDENT).draw(32, scene_generator(0, "test"))
Files = dict[str, bytes]


def trainer(folder: Path, windows: int) -> Trainer:
    torch.manual_seed(0)
    model = BackProjectionNet(STUDENT, beams=8, width=8, rank=2)
    recipe = Recipe(windows=windows, accumulation=1, warmup=2, ema_decay=0.9)
    return Trainer(model, FixedScenes(SCENES, 16, seed=0), SCENES[:8], recipe, folder=folder, progress=Silent())


class Disk:
    """What of one folder is on the disk for certain: contents at their last sync, names at the folder's last sync."""

    def __init__(self, folder: Path):
        self.folder = folder
        self.contents: dict[int, bytes] = {}  # of every inode that was synced
        self.names: dict[str, int] = {}
        self.named = False  # whether the folder's own name was synced in its parent
        self.kept: list[int] = []  # descriptors, so that no inode is used again
        self.saved = 0  # windows of the last checkpoint that a save has finished
        self.crashes: list[tuple[Files, int]] = []

    def sync(self, descriptor: int) -> None:
        status = os.fstat(descriptor)
        if not stat.S_ISDIR(status.st_mode):
            self.kept.append(os.dup(descriptor))
            self.contents[status.st_ino] = os.pread(descriptor, status.st_size, 0)
        elif status.st_ino == self.folder.stat().st_ino:
            self.names = self.present()
        elif status.st_ino == self.folder.parent.stat().st_ino:
            self.named = True

    def present(self) -> dict[str, int]:
        return {path.name: path.stat().st_ino for path in self.folder.iterdir() if path.name != ".lock"}

    def crash(self) -> None:
        """Record what a power loss may leave now: the fewest names or the latest, with unsynced ends or without."""
        if not self.folder.exists():
            return
        for names in (self.names if self.named else {}, self.present()):
            synced = {name: self.contents.get(inode, b"") for name, inode in names.items()}
            torn = {name: content + self.unsynced(name, names[name], content) for name, content in synced.items()}
            self.crashes += [(synced, self.saved), (torn, self.saved)]

    def unsynced(self, name: str, inode: int, content: bytes) -> bytes:
        """Half of what was appended to a file since its last sync, and zeros where the rest was to go."""
        path = self.folder / name
        new = path.read_bytes()[len(content) :] if path.exists() and path.stat().st_ino == inode else b""
        return new[: len(new) // 2] + bytes(len(new) - len(new) // 2)


@contextmanager
def recorded(folder: Path) -> Iterator[Disk]:
    """Record a crash before and after everything that is done to names or for the disk in ``folder``."""
    disk = Disk(folder)
    with pytest.MonkeyPatch.context() as patch:
        for name in ("fsync", "replace", "link", "unlink", "mkdir"):
            patch.setattr(os, name, around(disk, getattr(os, name), disk.sync if name == "fsync" else None))
        flush, save_last = Trainer.flush_and_report, RunFolder.save_last

        def flushed(self: Trainer, now: bool = False) -> None:
            flush(self, now=True)
            disk.crash()

        def saved(self: RunFolder, state: dict[str, Any]) -> None:
            save_last(self, state)
            disk.saved = state["position"]["window"]

        patch.setattr(Trainer, "flush_and_report", flushed)
        patch.setattr(RunFolder, "save_last", saved)
        yield disk
    for descriptor in disk.kept:
        os.close(descriptor)


def around(disk: Disk, honest: Callable[..., Any], after: Callable[..., None] | None) -> Callable[..., Any]:
    def call(*args: Any, **kwargs: Any) -> Any:
        disk.crash()
        result = honest(*args, **kwargs)
        if after is not None:
            after(*args)
        disk.crash()
        return result

    return call


def restored(files: Files, folder: Path) -> Path:
    folder.mkdir()
    for name, content in files.items():
        (folder / name).write_bytes(content)
    return folder


def assert_survives(crashes: list[tuple[Files, int]], whole: Path) -> int:
    """Resume after every crash; return how many different ones there were."""
    expected, folder = read_checkpoint(whole / "last.pt")["model"], whole.with_name("after")
    folder.mkdir()
    different = {(tuple(sorted(files.items())), saved) for files, saved in crashes}
    for number, (files, saved) in enumerate(different):
        run = trainer(restored(dict(files), folder / str(number)), 3).resume(extend=True)
        assert run.window >= saved, (number, sorted(dict(files)))
        run.fit()
        found = read_checkpoint(folder / str(number) / "last.pt")["model"]
        assert all(torch.equal(found[name], value) for name, value in expected.items())
        for name in ("ledger.jsonl", "epochs.json"):
            assert (folder / str(number) / name).read_bytes() == (whole / name).read_bytes()
    return len(different)


def test_a_run_survives_a_power_loss_at_every_moment(tmp_path: Path) -> None:
    trainer(tmp_path / "whole", 3).fit()
    with recorded(tmp_path / "run") as disk:
        trainer(tmp_path / "run", 3).fit()
    assert assert_survives(disk.crashes, tmp_path / "whole") >= 30


def test_an_extended_run_survives_a_power_loss_at_every_moment(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(Trainer, "learning_rate_factors", lambda self: torch.ones(self.recipe.windows + 1))
    trainer(tmp_path / "whole", 3).fit()
    trainer(tmp_path / "run", 1).fit()
    disk_before = {path.name: path.read_bytes() for path in (tmp_path / "run").iterdir() if path.name != ".lock"}
    with recorded(tmp_path / "run") as disk:
        disk.names, disk.named, disk.saved = disk.present(), True, 1
        disk.contents = {disk.names[name]: content for name, content in disk_before.items()}
        trainer(tmp_path / "run", 3).resume(extend=True).fit()
    assert assert_survives(disk.crashes, tmp_path / "whole") >= 20


@pytest.mark.parametrize("forgotten", ["the ledger", "files", "folders"])
def test_the_simulated_disk_notices_a_forgotten_sync(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, forgotten: str
) -> None:
    trainer(tmp_path / "whole", 3).fit()
    with recorded(tmp_path / "run") as disk:
        recording = os.fsync

        def forgetful(descriptor: int) -> None:
            if stat.S_ISDIR(os.fstat(descriptor).st_mode) != (forgotten == "folders"):
                recording(descriptor)

        if forgotten == "the ledger":
            monkeypatch.setattr(Ledger, "sync", lambda self: None)
        else:
            monkeypatch.setattr(os, "fsync", forgetful)
        trainer(tmp_path / "run", 3).fit()
        monkeypatch.undo()
    with pytest.raises((CheckpointError, FileExistsError, AssertionError)):
        assert_survives(disk.crashes, tmp_path / "whole")
