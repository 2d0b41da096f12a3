"""Train one network with several processes: how they share a window, and what they must agree on.

``torchrun --nproc-per-node 4 -m covlab train …`` starts the processes, called ranks, and gives each a number. The
ranks split a window's micro-batches in order, so together they see exactly the scenes that one process would see.
Each accumulates the gradient of the mean over its own scenes. Then one all-reduce per window adds up every rank's
gradient, weighted by its number of scenes, together with the scene counts. The result is the gradient that one
process would compute.

``DistributedDataParallel`` does not do this. It gives every rank the same weight, however many scenes it has. It waits
for a backward of every rank, even of a rank without a micro-batch. It rearranges its buckets after the first window,
so a resumed run adds in another order. Its advantage is that it overlaps the sum with the last backward;
``benchmarks/README.md`` shows what the sum costs.
"""

import os
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import replace
from datetime import timedelta
from typing import Any, TypeVar

import torch
import torch.distributed as dist
from torch import Tensor, nn

from covlab.scenes.batch import Batch
from covlab.scenes.streams import FixedScenes, FreshScenes

T = TypeVar("T")

SILENCE_SECONDS = 120
"""How long the others wait for a rank that hangs. If a rank dies, they end at once, because its connections close."""


class RankLost(RuntimeError):
    """Another rank has ended or does not answer."""


class Ranks:
    """A single process. :class:`ProcessGroup` has the same methods for several processes."""

    size, number = 1, 0

    @property
    def first(self) -> bool:
        """Whether this is the rank that prints and writes files."""
        return self.number == 0

    def share(self, numbers: range) -> range:
        """Return this rank's contiguous part of ``numbers``; the lengths of the parts differ by at most one."""
        return numbers[len(numbers) * self.number // self.size : len(numbers) * (self.number + 1) // self.size]

    def deal(self, scenes: FreshScenes | FixedScenes, epoch: int, window: range) -> list[Batch]:
        """Return this rank's share of the micro-batches of ``epoch`` whose numbers are in ``window``."""
        return list(scenes.micro_batches(epoch, window.start, window.stop))

    def average(self, parameters: list[nn.Parameter], weight: Tensor) -> Tensor:
        """Replace every gradient by its mean over ranks, weighted by ``weight`` []; return the total weight []."""
        return weight

    def gather(self, row: Tensor) -> Tensor:
        """Return every rank's ``row``, in order: [C] -> [ranks, C]."""
        return row.unsqueeze(0)

    def total(self, tensor: Tensor) -> Tensor:
        """Return the sum of ``tensor`` over ranks, possibly in place."""
        return tensor

    def any(self, flag: bool) -> bool:
        """Return whether ``flag`` is set on any rank."""
        return flag

    def once(self, function: Callable[[], T]) -> T:
        """Call ``function`` on the first rank only; return its result, or raise its exception, on every rank."""
        return function()

    def broadcast_parameters(self, model: nn.Module) -> None:
        """Copy the first rank's parameters and buffers to every rank."""


class ProcessGroup(Ranks):
    """This process in torch's default process group. All ranks must call every method, in the same order.

    Raises:
        RankLost: in any method, if another rank has ended or does not answer.
    """

    def __init__(self) -> None:
        self.size, self.number = dist.get_world_size(), dist.get_rank()

    def deal(self, scenes: FreshScenes | FixedScenes, epoch: int, window: range) -> list[Batch]:
        share = self.share(window)
        if share:
            return list(scenes.micro_batches(epoch, share.start, share.stop))
        # There is no micro-batch for this rank, so it repeats the first one with a weight of zero.
        first = next(scenes.micro_batches(epoch, window.start, window.stop))
        return [replace(first, weight=torch.zeros_like(first.weight))]

    def average(self, parameters: list[nn.Parameter], weight: Tensor) -> Tensor:
        gradients = [parameter.grad for parameter in parameters if parameter.grad is not None]  # the same on all ranks
        # A mean over scenes of weight zero is NaN, so replace it by 0.
        own = torch.where(weight > 0, weight * torch.cat([gradient.flatten() for gradient in gradients]), 0)
        sums = self.total(torch.cat([own, weight.view(1)]))
        mean = sums[:-1] / sums[-1]
        for gradient, piece in zip(gradients, mean.split([gradient.numel() for gradient in gradients]), strict=True):
            gradient.copy_(piece.view_as(gradient))
        return sums[-1]

    def gather(self, row: Tensor) -> Tensor:
        rows = row.new_zeros(self.size, len(row))
        rows[self.number] = row
        return self.total(rows)  # exact: only one term of each sum is not zero

    def total(self, tensor: Tensor) -> Tensor:
        self._together(dist.all_reduce, tensor)
        return tensor

    def any(self, flag: bool) -> bool:
        flags = torch.tensor([int(flag)])
        # on the host, where the flag is read, even if the devices have a faster connection
        self._together(dist.all_reduce, flags, dist.ReduceOp.MAX)
        return bool(flags)

    def once(self, function: Callable[[], T]) -> T:
        outcome: list[tuple[Any, Exception | None]] = [(None, None)]
        if self.first:
            try:
                outcome = [(function(), None)]
            except Exception as error:  # noqa: BLE001 - raised on every rank, this one included
                outcome = [(None, error)]
        self._together(dist.broadcast_object_list, outcome, 0, device=torch.device("cpu"))
        result, raised = outcome[0]
        if raised is not None:
            raise raised
        return result

    def broadcast_parameters(self, model: nn.Module) -> None:
        for tensor in model.state_dict().values():
            self._together(dist.broadcast, tensor, 0)

    def _together(self, collective: Callable[..., object], *args: object, **kwargs: object) -> None:
        try:
            collective(*args, **kwargs)
        except RuntimeError as error:
            raise RankLost(
                f"rank {self.number} of {self.size}: another rank has ended or does not answer "
                f"({str(error).splitlines()[0]})"
            ) from error


ALONE = Ranks()


def device_of_rank(device: str) -> str:
    """Return this process's device. With several ranks on CUDA, each rank has its own GPU.

    Raises:
        ValueError: there are fewer GPUs than ranks.
    """
    rank = int(os.environ.get("LOCAL_RANK", "0"))
    if device != "cuda" or _started() == 1:
        return device
    if rank >= torch.cuda.device_count():
        raise ValueError(
            f"device must leave a GPU for every rank on a machine, got {torch.cuda.device_count()} for rank {rank}; or "
            "use --device cpu"
        )
    torch.cuda.set_device(rank)
    return f"cuda:{rank}"


@contextmanager
def joined(device: str) -> Iterator[Ranks]:
    """Connect the ranks that torchrun started (gloo on CPU, nccl on CUDA); yield ``ALONE`` for a single process."""
    if _started() == 1:
        yield ALONE
        return
    backend = "cpu:gloo,cuda:nccl" if device.startswith("cuda") else "gloo"
    dist.init_process_group(backend, timeout=timedelta(seconds=SILENCE_SECONDS))
    try:
        yield ProcessGroup()
    finally:
        dist.destroy_process_group()


def _started() -> int:
    return int(os.environ.get("WORLD_SIZE", "1"))
