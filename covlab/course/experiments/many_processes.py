"""Run jobs that need several processes from a notebook: each rank is a process, connected by gloo.

A job is a function of this module with the arguments (rank, size, …). Every rank runs it; it returns tensors and plain
values.
"""

import json
import subprocess
import sys
import tempfile
from collections.abc import Callable
from contextlib import nullcontext
from dataclasses import dataclass
from datetime import timedelta
from pathlib import Path
from typing import Annotated, Any

import torch
import torch.distributed as dist
from torch import Tensor
from torch.distributed.algorithms.ddp_comm_hooks.default_hooks import allreduce_hook
from torch.nn.parallel import DistributedDataParallel

import covlab  # noqa: F401  (sets the thread policy, which must happen before torch loads)
from covlab.arguments import Count, Folder, Index, Positive, Seed, checked, whole_number
from covlab.course.experiments.micro_batches import cut
from covlab.networks.model import BackProjectionNet
from covlab.scenes.batch import Batch
from covlab.scenes.scenario import preset
from covlab.scenes.simulator import Simulator, scene_generator

Ranks = Annotated[int, whole_number(1, 64)]


@checked
def on_ranks(size: Ranks, job: Callable[..., object], **arguments: object) -> list[Any]:
    """Return what ``job`` returns on each of ``size`` ranks, in order.

    Raises:
        RuntimeError: a rank failed; the message is the end of its output.
    """
    with tempfile.TemporaryDirectory() as folder:
        torch.save({"job": job.__name__, "size": size, "arguments": arguments}, Path(folder) / "task.pt")
        command = [sys.executable, "-m", __name__, folder]
        ranks = [
            subprocess.Popen([*command, str(rank)], stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True)
            for rank in range(size)
        ]
        said = [rank.communicate()[0] for rank in ranks]
        if failed := [number for number, rank in enumerate(ranks) if rank.returncode]:
            raise RuntimeError("\n".join(f"rank {number} failed: {said[number].strip()[-500:]}" for number in failed))
        return [torch.load(Path(folder) / f"{rank}.pt") for rank in range(size)]


@dataclass(frozen=True)
class LoggedRun:
    """What `covlab train` wrote: one row per window, and one per epoch."""

    windows: list[dict]
    epochs: list[dict]


@checked
def train_on_ranks(ranks: Ranks, folder: Folder, **options: object) -> LoggedRun:
    """Run `covlab train` on ``ranks`` ranks.

    Args:
        options: of the command, as in ``micro_batch=8``.

    Raises:
        RuntimeError: the command failed; the message is the end of its output.
    """
    launcher = ["-m", "torch.distributed.run", "--standalone", "--nproc-per-node", str(ranks)] if ranks > 1 else []
    settings = [word for name, value in options.items() for word in (f"--{name.replace('_', '-')}", str(value))]
    command = [*launcher, "-m", "covlab", "train", "--folder", str(folder), *settings]
    with subprocess.Popen(
        [sys.executable, *command], stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True
    ) as process:
        try:
            said, _ = process.communicate()
        except KeyboardInterrupt:
            process.terminate()  # torchrun then stops its ranks; if torchrun were killed, they would continue
            raise
    if process.returncode:
        raise RuntimeError(f"covlab train failed: {said.strip()[-800:]}")
    rows = [json.loads(line) for line in (Path(folder) / "ledger.jsonl").read_text(encoding="utf-8").splitlines()]
    return LoggedRun(rows, json.loads((Path(folder) / "epochs.json").read_text(encoding="utf-8")))


@dataclass(frozen=True)
class ComparedGradient:
    """A window's gradient on all ranks, compared with that of one process which has all scenes.

    error: relative difference of the two. length: ratio of their lengths. angle: in degrees.
    reductions: how often the ranks combined their gradients. parameters: entries of the gradient.
    """

    error: float
    length: float
    angle: float
    reductions: int
    parameters: int


@checked
def compare_ranks(windows: dict[str, list[list[Count]]], seed: Seed) -> dict[str, dict[str, ComparedGradient]]:
    """Return {window: {rule: gradient}} of two ranks, for every rule of ``gradients_by_rank``.

    Args:
        windows: {name: for each rank, the numbers of scenes of its micro-batches}.

    Raises:
        RuntimeError: the ranks have different gradients after they were combined.
    """
    of_rank_0, of_rank_1 = on_ranks(2, gradients_by_rank, seed=seed, windows=windows)
    compared: dict[str, dict[str, ComparedGradient]] = {}
    for name in windows:
        reference = of_rank_0[name].pop("one process")[0]
        compared[name] = {}
        for rule, (gradient, reductions) in of_rank_0[name].items():
            if not torch.equal(gradient, of_rank_1[name][rule][0]):
                raise RuntimeError(f"{name}, {rule}: the ranks have different gradients after they were combined")
            cosine = gradient @ reference / gradient.norm() / reference.norm()
            compared[name][rule] = ComparedGradient(
                error=((gradient - reference).norm() / reference.norm()).item(),
                length=(gradient.norm() / reference.norm()).item(),
                angle=torch.rad2deg(torch.acos(cosine.clamp(-1, 1))).item(),
                reductions=reductions,
                parameters=len(reference),
            )
    return compared


@checked
def train_on_one_and_two_ranks(**options: object) -> tuple[LoggedRun, LoggedRun]:
    """Run `covlab train` with one process, then with two.

    Args:
        options: of the command, as in ``micro_batch=8``.

    Raises:
        RuntimeError: the command failed; the message is the end of its output.
    """
    with tempfile.TemporaryDirectory() as folder:
        one, two = (train_on_ranks(ranks, Path(folder) / str(ranks), **options) for ranks in (1, 2))
    return one, two


def small_network(seed: int) -> BackProjectionNet:
    """Return the same network on every rank, as ``DistributedDataParallel`` would ensure by itself."""
    torch.manual_seed(seed)
    return BackProjectionNet(preset("student"), beams=32, width=64, rank=4)


@checked
def window_on_ranks(
    parallel: DistributedDataParallel | BackProjectionNet, mine: list[Batch], share: float, hush: bool = True
) -> Tensor:
    """Return the gradient of one window [P]. ``share``: weight of a scene; ``hush``: reduce only at the end."""
    parallel.zero_grad()
    for number, batch in enumerate(mine):
        hushed = hush and number < len(mine) - 1
        with parallel.no_sync() if hushed and isinstance(parallel, DistributedDataParallel) else nullcontext():
            losses = parallel(batch.y, batch.H, batch.codes, batch.snr_db).nmse(batch)
            (share * losses.sum()).backward()
    return torch.cat([weight.grad.flatten() for weight in parallel.parameters() if weight.grad is not None])


@checked
def gradients_by_rank(rank: Index, size: Ranks, seed: Seed, windows: dict[str, list[list[Count]]]) -> dict:
    """Return {window: {rule: (gradient, reductions)}} of DistributedDataParallel, and of one process with all scenes.

    Args:
        windows: {name: for each rank, the numbers of scenes of its micro-batches}.
    """
    network = small_network(seed)
    parallel = DistributedDataParallel(network)
    reductions: list[int] = []
    parallel.register_comm_hook(reductions, counted)
    found = {}
    for name, counts in windows.items():
        total, own = sum(map(sum, counts)), sum(counts[rank])
        scenes = Simulator(preset("student")).draw(total, scene_generator(seed, "windows"))
        micro_batches = iter(cut(scenes, [count for of_rank in counts for count in of_rank]))
        mine = [[next(micro_batches) for _ in of_rank] for of_rank in counts][rank]
        rules = {"each rank its own mean": (1 / own, True), "mean over all scenes": (size / total, True)}
        rules |= {"mean over all scenes, without R": (1 / total, True)}
        if len({len(of_rank) for of_rank in counts}) == 1:  # else a rank waits for a reduction that another never joins
            rules |= {"without no_sync": (size / total, False)}
        of_window = {}
        for rule, (share, hush) in rules.items():
            reductions.clear()
            of_window[rule] = window_on_ranks(parallel, mine, share, hush), len(reductions)
        of_window["one process"] = window_on_ranks(network, [scenes], 1 / total, hush=False), 0
        found[name] = of_window
    return found


@checked
def reductions_in_order(
    rank: Index, size: Ranks, seed: Seed, micro_batches: list[Count], windows: Count, patience: Positive
) -> tuple[list[int], bool]:
    """Return the window, from 1, of each of this rank's reductions without no_sync, and whether the last one timed out.

    Args:
        micro_batches: how many each rank has in every window.
        patience: seconds to wait for a reduction that no other rank joins.
    """
    parallel = DistributedDataParallel(
        small_network(seed), process_group=dist.new_group(timeout=timedelta(seconds=patience))
    )
    scenes = Simulator(preset("student")).draw(4, scene_generator(seed, "windows"))
    met, in_vain = [], False
    dist.barrier()  # so that a slow start does not use up the patience
    try:
        for window in range(1, windows + 1):
            for _ in range(micro_batches[rank]):
                window_on_ranks(parallel, [scenes], share=1 / len(scenes), hush=False)
                met.append(window)
    except RuntimeError:  # gloo's timeout
        in_vain = True
    dist.barrier()  # in the default group, which waits longer; if a rank left early, the others would fail
    return met, in_vain


def counted(reductions: list[int], bucket: dist.GradBucket) -> torch.futures.Future[Tensor]:
    """Reduce a bucket of gradients as DistributedDataParallel does, and record it."""
    reductions.append(bucket.buffer().numel())
    assert dist.group.WORLD is not None  # set by init_process_group
    return allreduce_hook(dist.group.WORLD, bucket)


def main(folder: Path, rank: int) -> None:
    task = torch.load(folder / "task.pt")
    dist.init_process_group("gloo", init_method=f"file://{folder}/meeting", rank=rank, world_size=task["size"])
    result = globals()[task["job"]](rank, task["size"], **task["arguments"])
    torch.save(result, folder / f"{rank}.pt")
    dist.destroy_process_group()


if __name__ == "__main__":
    main(Path(sys.argv[1]), int(sys.argv[2]))
