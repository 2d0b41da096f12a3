"""Save and load everything that an exact resume needs, with atomic writes and checksums; no file can run code."""

import io
import json
import os
import shutil
import zipfile
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING, Any

import torch
from filelock import FileLock, Timeout
from torch import nn

from covlab.durable_files import make_folder, write_atomically

if TYPE_CHECKING:
    from covlab.networks.model import Network
    from covlab.scenes.streams import FixedScenes, FreshScenes
    from covlab.training.loss import LossWeights
    from covlab.training.recipe import Recipe
    from covlab.training.trainer import Trainer


FORMAT = 1
"""The version of what :func:`capture` saves. It changes when an older release could not resume from it."""

PARTS = (
    *("format", "config", "faults", "model", "optimizer", "scaler", "average", "counters", "position", "history"),
    *("random", "random_device"),
)


class CheckpointError(RuntimeError):
    """A checkpoint is missing, damaged, or from another run; the message names the file and the reason."""


def read_checkpoint(path: Path) -> dict:
    """Load the state in ``path``: tensors and plain values only, so a checkpoint from a stranger cannot run code.

    Raises:
        CheckpointError: the file is missing or damaged.
    """
    if not path.is_file():
        raise CheckpointError(f"{path}: no such checkpoint")
    try:
        with zipfile.ZipFile(path) as archive:
            damaged = archive.testzip()
        if damaged is None:
            return torch.load(path, weights_only=True, map_location="cpu")
    except Exception as error:  # the type depends on which byte is wrong
        raise CheckpointError(f"{path}: damaged or not a checkpoint ({type(error).__name__}: {error})") from error
    raise CheckpointError(f"{path}: damaged, wrong checksum of {damaged}")


def load_parameters(model: nn.Module, path: Path, allow_faults: bool = False) -> None:
    """Load the validated parameters in ``path``, such as a run's ``best.pt``, into ``model``.

    Raises:
        CheckpointError: the file is missing, damaged, from another network, or from a run with an injected fault
            (unless ``allow_faults``).
    """
    state = read_checkpoint(path)
    check_parts(path, state, ("faults", "model"))
    refuse_faults(path, state["faults"], allow_faults)
    try:
        model.load_state_dict(state["model"])
    except RuntimeError as error:
        raise CheckpointError(f"{path}: from another network than {type(model).__name__} ({error})") from error


def check_parts(path: Path, state: object, parts: tuple[str, ...]) -> None:
    """Raise CheckpointError unless ``state`` is a dict with these parts."""
    missing = [part for part in parts if not isinstance(state, dict) or part not in state]
    if missing:
        raise CheckpointError(f"{path}: not a checkpoint of this release of covlab, {', '.join(missing)} missing")


def refuse_faults(path: Path, faults: list[str], allowed: bool) -> None:
    """Raise CheckpointError if there are ``faults`` that are not ``allowed``."""
    if faults and not allowed:
        raise CheckpointError(
            f"{path}: BUG, made with the fault {', '.join(faults)}; to use it anyway, pass allow_faults=True"
        )


class RunFolder:
    """A run's files: ``config.json``, ``ledger.jsonl``, ``epochs.json``, ``last.pt``, ``previous.pt``, ``best.pt``.

    With ``writes`` False, never write the JSON files and checkpoints, because another process does.
    """

    NAMES = ("config.json", "ledger.jsonl", "epochs.json", "last.pt", "previous.pt", "best.pt")

    def __init__(self, path: Path | str, writes: bool = True):
        self.path, self.writes = Path(path), writes
        self.known: tuple[int, int] | None = None  # the last checkpoint that this object wrote or read

    @property
    def ledger(self) -> Path:
        return self.path / "ledger.jsonl"

    @property
    def best(self) -> Path:
        return self.path / "best.pt"

    @contextmanager
    def lock(self) -> Iterator[None]:
        """Keep other processes from training in the folder. The system releases the lock if this process dies.

        Raises:
            CheckpointError: another process trains there.
        """
        if not self.writes or (self.path.exists() and not os.access(self.path, os.W_OK)):
            yield
            return
        make_folder(self.path)
        holder = self.path / ".lock.process"  # on Windows, the locked file itself cannot be written or read
        lock = FileLock(self.path / ".lock", timeout=0, thread_local=False, is_singleton=True)
        try:
            lock.acquire()
        except Timeout:
            try:
                process = holder.read_text(encoding="utf-8") or "unknown"
            except FileNotFoundError:  # it has just ended
                process = "unknown"
            raise CheckpointError(
                f"{self.path} is in use by process {process}: wait until it ends, or choose another folder"
            ) from None
        try:
            holder.write_text(str(os.getpid()), encoding="utf-8")
            for name in self.NAMES:  # left behind by a process that was killed while it wrote
                for temporary in self.path.glob(f".{name}.*"):
                    temporary.unlink()
            yield
        finally:
            if lock.lock_counter == 1:  # this process may hold it more than once
                holder.unlink(missing_ok=True)
            lock.release()

    def refuse_overtaken(self) -> None:
        """Raise CheckpointError if the last checkpoint is not the one that this object wrote or read."""
        if self.known != self._last():
            raise CheckpointError(f"{self.path}: another process has continued this run; resume it again")

    def _last(self) -> tuple[int, int] | None:
        """Tell one last checkpoint from another."""
        path = self.path / "last.pt"
        if not path.exists():
            return None
        found = path.stat()
        return found.st_ino, found.st_mtime_ns

    def begin(self, config: dict) -> None:
        """Prepare the folder for a new run.

        Raises:
            FileExistsError: it already holds a run.
        """
        self.refuse_taken()
        make_folder(self.path)
        self.ledger.write_bytes(b"")  # a resume needs the file, even before the first row
        self.write_json("config.json", config)

    def refuse_taken(self) -> None:
        """Raise FileExistsError if the folder already holds a run."""
        if kept := self.kept():
            raise FileExistsError(
                f"{self.path} already holds a run ({', '.join(kept)}): resume it or choose another folder"
            )

    def extend(self, config: dict, trained: int) -> None:
        """Write the settings of a run that got another number of windows after ``trained`` windows."""
        if not self.writes:
            return
        change = {"after": trained, "windows": config["recipe"]["windows"]}
        changes = json.loads((self.path / "config.json").read_text(encoding="utf-8")).get("extended", [])
        self.write_json(
            "config.json", config | {"extended": changes if changes[-1:] == [change] else [*changes, change]}
        )

    def kept(self) -> list[str]:
        """The names of the files in the folder that hold results of a run."""
        signs = {"epochs.json": b"{", "ledger.jsonl": b"\n"}  # these files have results from the first row on
        found = [path for name in self.NAMES[1:] if (path := self.path / name).exists()]
        return [path.name for path in found if path.name not in signs or signs[path.name] in path.read_bytes()]

    def write_json(self, name: str, content: object) -> None:
        if self.writes:
            write_atomically(
                self.path / name, lambda path: path.write_text(json.dumps(content, indent=1) + "\n", encoding="utf-8")
            )

    def save_last(self, state: dict) -> None:
        """Write ``last.pt``; the old one becomes ``previous.pt``. At every moment at least one of them is complete."""
        if not self.writes:
            return
        last = self.path / "last.pt"
        if last.exists():
            write_atomically(self.path / "previous.pt", lambda path: _link_or_copy(last, path))
        write_atomically(last, lambda path: _save(state, path))
        self.known = self._last()

    def save_best(self, state: dict) -> None:
        if self.writes:
            write_atomically(self.best, lambda path: _save(state, path))

    def trained(self, previous: bool = False) -> int:
        """Return how many windows the last (or ``previous``) checkpoint has trained.

        Raises:
            CheckpointError: as :meth:`load` does.
        """
        state = self.load(previous)
        return 0 if state is None else state["position"]["window"]

    def load(self, previous: bool = False) -> dict | None:
        """Return the state to resume from, or None if the run has not saved any yet.

        Raises:
            CheckpointError: the checkpoint is damaged, missing, or from another release. If ``previous.pt`` exists, the
                message says how to use it.
        """
        path = self.path / ("previous.pt" if previous else "last.pt")
        self.known = self._last()
        if not previous and not self.kept():
            return None
        try:
            state = read_checkpoint(path)
            check_parts(path, state, PARTS)
            if state["format"] != FORMAT:
                raise CheckpointError(f"{path}: has format {state['format']}, and this release reads format {FORMAT}")
            return state
        except CheckpointError as error:
            if previous or not (self.path / "previous.pt").exists():
                raise
            raise CheckpointError(
                f"{error}; the checkpoint before it is {self.path / 'previous.pt'}: to use that one, resume with "
                "previous=True (in a shell: --previous)"
            ) from error


def _save(state: dict, path: Path) -> None:
    buffer = io.BytesIO()  # a full disk is an OSError then, and not a RuntimeError that does not name it
    torch.save(state, buffer)
    path.write_bytes(buffer.getbuffer())


def _link_or_copy(source: Path, target: Path) -> None:
    try:
        os.link(source, target)
    except OSError:  # some file systems have no hard links
        shutil.copyfile(source, target)


def capture(trainer: "Trainer") -> dict[str, Any]:
    """Return everything that an exact resume of ``trainer`` needs, as tensors and plain values."""
    return {
        "format": FORMAT,
        "config": trainer.config(),
        "faults": list(trainer.faults),
        "model": trainer.model.state_dict(),
        "optimizer": trainer.optimizer.state_dict(),
        "scaler": trainer.scaler.state_dict(),
        "average": trainer.average,
        "counters": trainer.counters,
        "position": {name: getattr(trainer, name) for name in ("epoch", "window_of_epoch", "window", "best", "streak")},
        "history": trainer.history,
        "ledger": trainer.ledger.checksum,
        "random": torch.get_rng_state(),
        "random_device": torch.cuda.get_rng_state(trainer.device) if trainer.device.type == "cuda" else None,
    }


def restore(trainer: "Trainer", state: dict[str, Any]) -> None:
    """Restore ``trainer``, its ledger included, to the moment when ``state`` was captured."""
    trainer.model.load_state_dict(state["model"])
    trainer.optimizer.load_state_dict(state["optimizer"])
    for group in trainer.optimizer.param_groups:
        if isinstance(group["lr"], torch.Tensor):
            group["lr"] = group["lr"].to(trainer.device)
    trainer.scaler.load_state_dict(state["scaler"])
    if trainer.average is not None:
        trainer.average.copy_(state["average"])
    for name, value in state["counters"].items():
        trainer.counters[name].copy_(value)
    for name, value in state["position"].items():
        setattr(trainer, name, value)
    trainer.history = state["history"]
    torch.set_rng_state(state["random"])
    if state["random_device"] is not None:
        torch.cuda.set_rng_state(state["random_device"], trainer.device)
    trainer.copy_parameters()
    trainer.ledger.cut_back_to(trainer.window, state.get("ledger"))  # older checkpoints know none


def describe_run(
    model: "Network", scenes: "FreshScenes | FixedScenes", recipe: "Recipe", weights: "LossWeights"
) -> dict[str, dict | str | int | None]:
    """Return the settings of a run that must agree before it may be resumed, in plain values."""
    return {
        "network": type(model).__name__,
        "width": getattr(model, "width", None),
        "scenes": scenes.identity,
        "scenario": asdict(model.scenario),
        "recipe": asdict(recipe),
        "weights": asdict(weights),
    }


def check_same_run(saved: dict, current: dict) -> None:
    """Raise CheckpointError if a setting differs; the message names each one."""
    saved, current = _flat(saved), _flat(current)
    differences = [
        f"{name}: saved {saved.get(name)}, now {current.get(name)}"
        for name in saved | current
        if saved.get(name) != current.get(name)
    ]
    if differences:
        raise CheckpointError("the checkpoint is from another run: " + "; ".join(differences))


def _flat(config: dict) -> dict[str, str]:
    """Return {"recipe.windows": "100", …} with values as JSON, where a tuple and a list look the same."""
    return {
        f"{part}.{name}" if name else part: json.dumps(value)
        for part, values in config.items()
        for name, value in (values.items() if isinstance(values, dict) else [("", values)])
    }
