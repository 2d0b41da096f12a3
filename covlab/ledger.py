"""One row a window, kept on the device and brought to the host in blocks."""

import itertools
import json
from collections.abc import Callable
from pathlib import Path

import torch
from torch import Tensor

from covlab.checkpoint import write_atomically
from covlab.loss import Losses
from covlab.simulator import CONTRACT, Batch


class Ledger:
    """What happened, window by window.

    ``append`` never waits for the device; ``flush`` waits once for all rows since the last flush.

    Args:
        path: a JSON-lines file that every flushed row is also written to; None keeps rows in memory only.
    """

    def __init__(self, path: Path | None = None):
        self.path = path
        self.rows: list[dict[str, float]] = []
        self._pending: list[tuple[dict[str, float], list[str], Tensor]] = []

    def append(self, host: dict[str, float], device: dict[str, Tensor]) -> None:
        """A row of numbers known on the host and of scalar tensors still on their way."""
        self._pending.append((host, list(device), torch.stack([value.double() for value in device.values()])))

    @property
    def pending(self) -> int:
        """Rows appended since the last flush."""
        return len(self._pending)

    def flush(self) -> list[dict[str, float]]:
        """Bring the pending rows to the host (one synchronization); returns these rows."""
        if not self._pending:
            return []
        values = torch.stack([row for _, _, row in self._pending]).tolist()
        fresh = [host | dict(zip(names, row, strict=True)) for (host, names, _), row in zip(self._pending, values, strict=True)]
        self._pending.clear()
        self.rows += fresh
        if self.path is not None:
            with self.path.open("a") as file:
                file.writelines(json.dumps(row) + "\n" for row in fresh)
        return fresh

    def cut_back_to(self, windows: int) -> None:
        """Take the first ``windows`` rows from the file, and forget every later one, there and here.

        Raises:
            ValueError: there is no file, or it holds fewer rows.
        """
        if self.path is None or not self.path.exists():
            raise ValueError(f"ledger must be a file to cut back to window {windows}, got {self.path}")
        with self.path.open() as file:
            lines = list(itertools.islice(file, windows))
        if len(lines) < windows:
            raise ValueError(f"{self.path} must hold at least {windows} rows, got {len(lines)}")
        self.rows = [json.loads(line) for line in lines]
        self._pending.clear()
        write_atomically(self.path, lambda path: path.write_text("".join(lines)))

    def columns(self) -> dict[str, list[float]]:
        """{column: values}, as ``pandas.DataFrame`` takes it. A column a row lacks is NaN there."""
        self.flush()
        names = dict.fromkeys(name for row in self.rows for name in row)
        return {name: [row.get(name, float("nan")) for row in self.rows] for name in names}


class WindowSums:
    """What a row says of its window's micro-batches: counts on the host, sums on the device."""

    def __init__(self, window: list[Batch], device: torch.device):
        self.host = {"scenes": sum(len(micro_batch) for micro_batch in window), "micro_batches": len(window)}
        self.device = {"loss": torch.zeros((), dtype=torch.float64, device=device)}
        self._scenes_before = 0

    @torch.no_grad()
    def add(self, micro_batch: Batch, losses: Losses, loss: Tensor, window_weight: Tensor) -> None:
        bad_input = torch.stack([~getattr(micro_batch, name).sum().isfinite() for name in CONTRACT])
        bad_scene = ~losses.total.isfinite()
        sums = {"loss": loss, **{f"term_{name}": (term * micro_batch.weight).sum() / window_weight for name, term in losses.terms.items()}}
        for name, value in sums.items():
            self.device[name] = self.device.get(name, 0) + value.detach()
        self._keep("smallest_relative_trace", losses.relative_trace.min(), torch.minimum)
        self._keep("bad_input", _first_true(bad_input), torch.maximum)
        self._keep("bad_scene", _first_true(bad_scene, self._scenes_before), lambda old, new: torch.where(old >= 0, old, new))
        self._scenes_before += len(micro_batch)

    def _keep(self, name: str, value: Tensor, choose: Callable[[Tensor, Tensor], Tensor]) -> None:
        self.device[name] = choose(self.device[name], value) if name in self.device else value


def _first_true(flags: Tensor, offset: int = 0) -> Tensor:
    """The index of the first True, plus ``offset``; -1 where there is none. (Without waiting for the device.)"""
    return torch.where(flags.any(), flags.float().argmax() + offset, -1)
