"""The log of a run: one row per window, which stays on the device until a flush brings many to the host at once."""

import hashlib
import json
from collections.abc import Iterable
from functools import cached_property
from pathlib import Path
from typing import Annotated

import torch
from torch import Tensor

from covlab.arguments import checked, file
from covlab.durable_files import sync, write_atomically
from covlab.scenes.batch import Batch
from covlab.training.checkpoint import CheckpointError
from covlab.training.loss import Losses
from covlab.training.ranks import ALONE, Ranks


class Ledger:
    """The log of a run, one row per window.

    ``append`` never waits for the device; ``flush`` waits once for all rows since the last flush.

    Args:
        path: a JSON-lines file that also gets every flushed row; None: rows stay only in memory.
        writes: False: another process writes that file; this one keeps the same rows in memory.
    """

    @checked
    def __init__(self, path: Annotated[Path | None, file.or_none("no file")] = None, writes: bool = True):
        self.path, self.writes = path, writes
        self.rows: list[dict[str, float]] = []
        self._pending: list[tuple[dict[str, float], list[str], Tensor]] = []
        self.checksum = ""  #: of all flushed rows, as they stand in the file

    def append(self, host: dict[str, float], device: dict[str, Tensor]) -> None:
        """Add a row: numbers known on the host, and scalar tensors on the device (kept in single precision)."""
        self._pending.append((host, list(device), torch.stack([value.float() for value in device.values()])))

    @property
    def pending(self) -> int:
        """Number of rows appended since the last flush."""
        return len(self._pending)

    def flush(self) -> list[dict[str, float]]:
        """Bring the pending rows to the host (one synchronization), and return them."""
        if not self._pending:
            return []
        values = iter(torch.cat([row for _, _, row in self._pending]).tolist())
        fresh = [host | {name: next(values) for name in names} for host, names, _ in self._pending]
        self._pending.clear()
        self.rows += fresh
        lines = [json.dumps(row) + "\n" for row in fresh]
        self.checksum = chained(self.checksum, lines)
        if self.path is not None and self.writes:
            with self.path.open("a", encoding="utf-8") as file:
                file.writelines(lines)
        return fresh

    def sync(self) -> None:
        """Wait until the flushed rows are on the disk."""
        if self.path is not None and self.writes and self.path.exists():
            sync(self.path)

    def cut_back_to(self, windows: int, checksum: str | None = None) -> None:
        """Keep the file's first ``windows`` rows. Remove every later row from file and memory.

        Raises:
            CheckpointError: there is no file, it does not begin with the rows of windows 1, 2, … in order, or these
                rows do not have this ``checksum`` (None: not known).
        """
        if self.path is None or not self.path.exists():
            raise CheckpointError(f"{self.path}: no such ledger; the checkpoint needs its first {windows} rows")
        lines = self.path.read_bytes().splitlines(keepends=True)
        kept, self.rows = lines[:windows], []
        for number, line in enumerate(kept, 1):
            try:
                row = json.loads(line)
            except ValueError:
                row = None
            if not isinstance(row, dict) or row.get("window") != number:
                raise CheckpointError(
                    f"{self.path}: line {number} must be the row of window {number}, got {line[:60]!r}"
                )
            self.rows.append(row)
        if len(kept) < windows:
            raise CheckpointError(f"{self.path}: the checkpoint needs {windows} rows, and it holds {len(kept)}")
        found = chained("", (line.decode().replace("\r\n", "\n") for line in kept))
        if checksum not in (None, found):
            raise CheckpointError(
                f"{self.path}: its first {windows} rows were edited or damaged, they are not those that the run wrote"
            )
        self._pending.clear()
        self.checksum = found
        if self.writes and len(lines) > windows:
            write_atomically(self.path, lambda path: path.write_bytes(b"".join(kept)))

    def columns(self) -> dict[str, list[float]]:
        """Return {column: values}, for ``pandas.DataFrame``; NaN where a row lacks a column."""
        self.flush()
        names = dict.fromkeys(name for row in self.rows for name in row)
        return {name: [row.get(name, float("nan")) for row in self.rows] for name in names}


def chained(checksum: str, lines: Iterable[str]) -> str:
    """Return the checksum of a file with this ``checksum`` (empty: an empty file) after ``lines`` are added to it."""
    for line in lines:
        checksum = hashlib.sha256(checksum.encode() + line.encode()).hexdigest()
    return checksum


class WindowLosses:
    """The losses of a window's micro-batches on all ``ranks``, reduced once to a ledger row without waiting."""

    def __init__(self, ranks: Ranks = ALONE):
        self._ranks = ranks
        self._weights: list[Tensor] = []
        self._shares: list[Tensor] = []
        self._losses: list[Losses] = []

    def add(self, micro_batch: Batch, losses: Losses, share: Tensor) -> None:
        """Add a micro-batch, its losses, and the share of the window's loss that was backpropagated."""
        self._weights.append(micro_batch.weight)
        self._shares.append(share.detach())
        self._losses.append(losses.detach())  # the graph would keep the activations of every micro-batch in memory

    @property
    def loss(self) -> Tensor:
        """The window's loss, as it was backpropagated []."""
        return self._row["loss"]

    def host(self) -> dict[str, float]:
        """Return the counts of scenes and micro-batches; {} with several ranks, whose counts only the device knows."""
        if self._ranks.size > 1:
            return {}
        return {"scenes": sum(map(len, self._weights)), "micro_batches": len(self._weights)}

    def device(self) -> dict[str, Tensor]:
        """Return the loss, each term's weighted mean, the smallest relative trace, the first non-finite scene or -1."""
        return self._row

    @cached_property
    @torch.no_grad()
    def _row(self) -> dict[str, Tensor]:
        return self._own() if self._ranks.size == 1 else self._of_all_ranks()

    def _own(self) -> dict[str, Tensor]:
        weights = torch.cat(self._weights)
        terms = {name: torch.cat([losses.terms[name] for losses in self._losses]) for name in self._losses[0].terms}
        # x * 0 is NaN if x is not finite; this takes fewer operations than isfinite
        bad = torch.cat([losses.total for losses in self._losses]) * 0 != 0
        return {
            "loss": torch.stack(self._shares).sum(),
            **{f"term_{name}": torch.dot(term, weights) / weights.sum() for name, term in terms.items()},
            "smallest_relative_trace": torch.cat([losses.relative_trace for losses in self._losses]).min(),
            "bad_scene": torch.where(bad.any(), bad.float().argmax(), -1),
        }

    def _of_all_ranks(self) -> dict[str, Tensor]:
        """Return the row that one process would have. Ranks are combined in order, so the first bad scene agrees."""
        own, weights = self._own(), torch.cat(self._weights)
        others = {name: own.pop(name) for name in ("bad_scene", "smallest_relative_trace")}
        counts = (weights.sum(), weights.new_tensor(len(weights)), weights.new_tensor(len(self._weights)))
        rows = self._ranks.gather(torch.stack([value.float() for value in (*counts, *others.values(), *own.values())]))
        takes_part = rows[:, :1] > 0  # ignore a rank without a micro-batch, whose weight is 0
        rows = torch.where(takes_part, rows, rows.new_tensor([0, 0, 0, -1, torch.inf] + [0] * len(own)))
        weight, scenes, micro_batches, bad, trace = rows[:, :5].unbind(dim=1)
        first_bad = torch.where(bad >= 0, scenes.cumsum(0) - scenes + bad, torch.inf).min()
        return {
            **dict(zip(own, weight @ rows[:, 5:] / weight.sum(), strict=True)),
            "scenes": scenes.sum(),
            "micro_batches": micro_batches.sum(),
            "smallest_relative_trace": trace.min(),
            "bad_scene": torch.where(first_bad.isinf(), -1, first_bad),
        }
