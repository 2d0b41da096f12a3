"""Compare the parameters of the ranks of a job, without a collective in the loop.

Every rank writes checksums of its parameters into a file of its own, at the same few steps. At the end, rank 0 reads
the files. The ranks agree on a folder for them by one atomic request to the store of the process group, which waits
for nobody. So ranks may make different numbers of steps, and may end at any time.
"""

import json
import os
import shutil
import sys
import tempfile
import time
import uuid
import weakref
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, TextIO

import torch
import torch.distributed as dist
from torch import Tensor, nn
from torch.nn.parallel import DistributedDataParallel

from covlab.watch.seen import measurements
from covlab.watch.seen.deferred import DeferredReads
from covlab.watch.seen.isolation import readable_tensor
from covlab.watch.seen.optimizer import WatchedOptimizer

SECONDS_TO_WAIT = 10  # at the end, for ranks that are still running
RELATIVE_DIFFERENCE = 1e-6  # of checksums; the ranks of a healthy job agree in every bit
SHARDED = ("FullyShardedDataParallel", "DeepSpeedEngine")

Point = tuple[int, int]  # number of the optimizer, and of its step
Checksums = list[list[float]]  # of each tensor: a weighted sum, and the sum of absolute values


@dataclass
class Difference:
    """Where the ranks first differ."""

    step: int  #: the step before which they differ
    optimizer: int
    tensors: list[int]  #: indices of the optimizer's parameters
    ranks: list[int]  #: those that differ from rank 0
    agreed_before: bool  #: at some step before
    agrees_later: bool  #: at some step after


@dataclass
class Comparison:
    ranks: list[int]  #: those that were compared with rank 0
    points: int = 0  #: how many steps could be compared
    differences: list[Difference] = field(default_factory=list)  #: the first of each optimizer


class Replicas:
    """What this rank knows of its replicas. All of it is empty in a process without a group."""

    def __init__(self) -> None:
        self.rank, self.ranks = 0, 1
        self.parallel: weakref.WeakSet[DistributedDataParallel] = weakref.WeakSet()
        self.synchronized: dict[int, set[int]] = {}  # by optimizer: indices of parameters that a DDP synchronizes
        self.sharded = False
        self.communicates = False  # a collective ran between steps; known of a job of one rank only
        self.ended_at: float | None = None
        self._collectives: int | None = None
        self._folder: Path | None = None
        self._file: TextIO | None = None
        self._comparison: Comparison | None = None

    # ---------------------------------------------------------------- while the loop runs

    def note_parallel(self, module: nn.Module) -> None:
        if isinstance(module, DistributedDataParallel):
            self.parallel.add(module)

    def is_inside(self, module: nn.Module) -> bool:
        """Return whether ``module`` is, or is part of, the module of a DDP that is not within it."""
        mine: set[int] | None = None
        for outer in self.parallel:
            if mine is None:
                mine = {id(one) for one in module.parameters() if one.requires_grad}
            if outer is not module and not mine.isdisjoint(map(id, outer.module.parameters())):
                return all(part is not outer for part in module.modules())
        return False

    def before_step(self, watched: WatchedOptimizer, step: int, models: list[nn.Module], reads: DeferredReads) -> None:
        """Write the checksums of the optimizer's parameters before a step that is compared."""
        if not dist.is_available() or not dist.is_initialized():
            return
        if self._file is None and not self._join():
            return
        self.sharded = self.sharded or any(type(part).__name__ in SHARDED for one in models for part in one.modules())
        parameters = watched.parameters()
        self.sharded = self.sharded or any(hasattr(one, "_local_tensor") or hasattr(one, "ds_id") for one in parameters)
        if self.sharded:
            return
        for module in models:
            self.note_parallel(module)
        trusted = self._synchronized_parameters()
        self.synchronized[watched.number] = {i for i, one in enumerate(parameters) if id(one) in trusted}
        sums = [checksum(parameter) for parameter in parameters]
        if sums:
            device = sums[0].device
            together = torch.stack([one.to(device) for one in sums])
            reads.vector(together, lambda values: self._write([watched.number, step, values]))

    def _join(self) -> bool:
        """Agree with the other ranks on a folder. Return whether there are other ranks."""
        self.rank, self.ranks = dist.get_rank(), dist.get_world_size()
        if self.ranks < 2:
            self._count_collectives()
            return False
        store = dist.distributed_c10d._get_default_store()
        name = store.compare_set("covlab.watch", "", uuid.uuid4().hex).decode()
        self._folder = Path(tempfile.gettempdir(), f"covlab-watch-{name}")
        self._folder.mkdir(mode=0o700, exist_ok=True)
        self._file = (self._folder / f"rank{self.rank}.jsonl").open("w", encoding="utf-8")
        self._write(["process", os.getpid()])
        return True

    def _count_collectives(self) -> None:
        group: Any = dist.distributed_c10d._get_default_group()  # the stubs lack its count
        try:
            collectives = group._get_sequence_number_for_group()
        except RuntimeError:  # the backend does not count them
            self.communicates = True
            return
        self.communicates = self.communicates or self._collectives not in (None, collectives)
        self._collectives = collectives

    def _write(self, row: list[Any]) -> None:
        if self._file is not None:
            self._file.write(json.dumps(row) + "\n")
            self._file.flush()

    def _synchronized_parameters(self) -> set[int]:
        """Return the ids of parameters that a DDP keeps equal on all ranks of the job."""
        found: set[int] = set()
        for outer in self.parallel:
            is_whole_job = outer.process_group is None or outer.process_group.size() == self.ranks
            if is_whole_job and not getattr(outer, "_comm_hooks", None):
                ignored = getattr(outer, "parameters_to_ignore", ())
                found |= {id(one) for name, one in outer.module.named_parameters() if name not in ignored}
        return found

    # ---------------------------------------------------------------- at the end

    def stop(self) -> None:
        self.ended_at = time.monotonic()
        if self._file is not None:
            self._write(["ended"])
            self._file.close()

    def compare(self) -> Comparison | None:
        """Compare the ranks on rank 0. Return None on others, or if no other rank is watched on this machine."""
        if self._comparison is not None or self._folder is None or self.rank:
            return self._comparison
        here = int(os.environ.get("LOCAL_WORLD_SIZE", self.ranks))  # ranks on this machine, whose files may be late
        paths = [self._path(rank) for rank in range(1, min(here, self.ranks))]
        while self.ended_at is not None and time.monotonic() < self.ended_at + SECONDS_TO_WAIT:
            if not any(not path.exists() or _is_running(path) for path in paths):
                break
            time.sleep(0.05)
        others = {rank: path for rank in range(1, self.ranks) if (path := self._path(rank)).exists()}
        mine, theirs = _read(self._path(0)), {rank: _read(path) for rank, path in others.items()}
        comparison = _compare(mine, theirs) if theirs else None
        if self.ended_at is not None:
            self._comparison = comparison
            shutil.rmtree(self._folder, ignore_errors=True)
            self._folder = None
        return comparison

    def _path(self, rank: int) -> Path:
        assert self._folder is not None
        return self._folder / f"rank{rank}.jsonl"


def is_compared(step: int) -> bool:
    return step <= 16 or step % (4 if step <= 64 else 64 if step <= 1024 else 1024) == 0


@torch.no_grad()
def checksum(parameter: Tensor) -> Tensor:
    """Return a weighted sum of some elements of a tensor, and the sum of their absolute values."""
    values = readable_tensor(parameter)
    if values is None or not values.numel():
        return torch.zeros(2, dtype=torch.float64)
    sample = measurements.sample_numbers(values)
    weights = 1 + torch.arange(len(sample), device=sample.device, dtype=torch.float64).sin().abs()
    return torch.stack([(sample * weights).sum(), sample.abs().sum()])


def _rows(path: Path) -> list[list[Any]]:
    rows = []
    for line in path.read_text(encoding="utf-8").splitlines():
        try:
            rows.append(json.loads(line))
        except json.JSONDecodeError:  # the rank is writing this line
            break
    return rows


def _is_running(path: Path) -> bool:
    """Return whether the process that writes the file goes on."""
    rows = _rows(path)
    return bool(rows) and rows[-1] != ["ended"] and is_alive(rows[0][1])


def is_alive(process: int) -> bool:
    """Return whether a process of this machine has not ended."""
    if sys.platform == "win32":  # there, signal 0 is Ctrl-C: it interrupts the process
        return True
    try:
        os.kill(process, 0)
        status = Path(f"/proc/{process}/stat").read_text(encoding="utf-8", errors="replace")
    except ProcessLookupError:
        return False
    except OSError:  # another user's, or a system without /proc
        return True
    return status.rpartition(")")[2].split()[0] != "Z"  # a zombie has ended, and its launcher does not know yet


def _read(path: Path) -> dict[Point, Checksums]:
    return {(row[0], row[1]): row[2] for row in _rows(path) if len(row) == 3}


def _compare(mine: dict[Point, Checksums], theirs: dict[int, dict[Point, Checksums]]) -> Comparison:
    result = Comparison(list(theirs))
    history: dict[int, list[tuple[int, list[int], list[int]]]] = {}  # by optimizer: step, tensors, ranks
    for (optimizer, step), own in sorted(mine.items()):
        others = {rank: sums for rank, points in theirs.items() if (sums := points.get((optimizer, step))) is not None}
        others = {rank: sums for rank, sums in others.items() if len(sums) == len(own)}
        if not others:
            continue
        result.points += 1
        by_rank = {rank: [i for i in range(len(own)) if _differ(own[i], sums[i])] for rank, sums in others.items()}
        differing = sorted({i for found in by_rank.values() for i in found})
        ranks = [rank for rank, found in by_rank.items() if found]
        history.setdefault(optimizer, []).append((step, differing, ranks))
    for optimizer, points in history.items():
        first = next((at for at, (_, tensors, _) in enumerate(points) if tensors), None)
        if first is not None:
            step, tensors, ranks = points[first]
            again = any(not found for _, found, _ in points[first:])
            result.differences.append(Difference(step, optimizer, tensors, ranks, first > 0, again))
    return result


def _differ(one: list[float], other: list[float]) -> bool:
    """Return whether two checksums differ; NaN is equal to NaN."""
    if one[0] == other[0] or (one[0] != one[0] and other[0] != other[0]):
        return False
    return not abs(one[0] - other[0]) <= RELATIVE_DIFFERENCE * max(one[1], other[1])
