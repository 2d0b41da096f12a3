"""Save and load everything that an exact resume needs, with atomic writes and checksums; no file can run code."""

import json
import os
import zipfile
from collections.abc import Callable
from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING, Any

import torch
from torch import nn

if TYPE_CHECKING:
    from covlab.networks.model import Network
    from covlab.scenes.streams import FixedScenes, FreshScenes
    from covlab.training.loss import LossWeights
    from covlab.training.recipe import Recipe
    from covlab.training.trainer import Trainer


class CheckpointError(RuntimeError):
    """A checkpoint is missing, damaged, or from another run; the message names the file and the reason."""


def write_atomically(path: Path, write: Callable[[Path], object]) -> None:
    """Call ``write(temporary path)``, then replace ``path`` with that file in one move."""
    temporary = path.with_name(f".{path.name}.{os.getpid()}")
    try:
        write(temporary)
        with temporary.open("rb+") as file:
            os.fsync(file.fileno())
        temporary.replace(path)
    finally:
        temporary.unlink(missing_ok=True)


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
    refuse_faults(path, state["faults"], allow_faults)
    try:
        model.load_state_dict(state["model"])
    except RuntimeError as error:
        raise CheckpointError(f"{path}: from another network than {type(model).__name__} ({error})") from error


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

    def __init__(self, path: Path | str, writes: bool = True):
        self.path, self.writes = Path(path), writes

    @property
    def ledger(self) -> Path:
        return self.path / "ledger.jsonl"

    @property
    def best(self) -> Path:
        return self.path / "best.pt"

    def begin(self, config: dict) -> None:
        """Prepare the folder for a new run.

        Raises:
            FileExistsError: it already holds a run.
        """
        if (self.path / "last.pt").exists():
            raise FileExistsError(f"{self.path} already holds a run: resume it or choose another folder")
        self.path.mkdir(parents=True, exist_ok=True)
        self.ledger.write_text("")  # a resume needs the file, even before the first row
        self.write_json("config.json", config)

    def write_json(self, name: str, content: object) -> None:
        if self.writes:
            write_atomically(self.path / name, lambda path: path.write_text(json.dumps(content, indent=1) + "\n"))

    def save_last(self, state: dict) -> None:
        """Write ``last.pt``; the old one becomes ``previous.pt``. At every moment at least one of them is complete."""
        if not self.writes:
            return
        last = self.path / "last.pt"
        if last.exists():
            kept = self.path / f".previous.{os.getpid()}"
            kept.unlink(missing_ok=True)
            os.link(last, kept)
            kept.replace(self.path / "previous.pt")
        write_atomically(last, lambda path: torch.save(state, path))

    def save_best(self, state: dict) -> None:
        if self.writes:
            write_atomically(self.best, lambda path: torch.save(state, path))

    def load(self, previous: bool = False) -> dict | None:
        """Return the state to resume from, or None if the run has not saved any yet.

        Raises:
            CheckpointError: the checkpoint is damaged, or ``previous`` and there is none. If ``previous.pt`` exists,
                the message says how to use it.
        """
        path = self.path / ("previous.pt" if previous else "last.pt")
        if not path.exists() and not previous:
            return None
        try:
            return read_checkpoint(path)
        except CheckpointError as error:
            if previous or not (self.path / "previous.pt").exists():
                raise
            raise CheckpointError(
                f"{error}; the checkpoint before it is {self.path / 'previous.pt'}: to use that one, resume with "
                "previous=True (in a shell: --previous)"
            ) from error


def capture(trainer: "Trainer") -> dict[str, Any]:
    """Return everything that an exact resume of ``trainer`` needs, as tensors and plain values."""
    return {
        "config": trainer.config(),
        "faults": list(trainer.faults),
        "model": trainer.model.state_dict(),
        "optimizer": trainer.optimizer.state_dict(),
        "scaler": trainer.scaler.state_dict(),
        "average": trainer.average,
        "counters": trainer.counters,
        "position": {name: getattr(trainer, name) for name in ("epoch", "window_of_epoch", "window", "best", "streak")},
        "history": trainer.history,
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
    trainer.ledger.cut_back_to(trainer.window)


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
