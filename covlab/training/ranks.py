"""Several processes that train one network: how they share a window, and what they must agree on.

``torchrun --nproc-per-node 4 -m covlab train …`` starts the processes, called ranks, and tells each its number. A
window's micro-batches are dealt out to them in order, so that together they see the very scenes that one process
would. Each accumulates the gradient of the mean over its own scenes, alone; then one all-reduce makes of these means,
weighed by the ranks' scenes, the mean over all scenes, which is what one process has.

Why that and not ``DistributedDataParallel``: it gives every rank the same weight, whatever it holds; it waits for a
backward of every rank, also of one that has no micro-batch; and it arranges its buckets anew after the first window
of a process, so that a run that was taken up again adds in another order. It would overlap the sum with the last
backward: ``benchmarks/README.md`` has what the sum costs.
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
"""A rank that dies ends the others at once, for its connections close; one that falls silent, after so many seconds."""


class RankLost(RuntimeError):
    """Another rank has ended, or does not answer."""


class Ranks:
    """One process alone: there is nobody to ask, and every answer is its own."""

    size, number = 1, 0

    @property
    def first(self) -> bool:
        """Is this the rank that speaks and writes files?"""
        return self.number == 0

    def share(self, numbers: range) -> range:
        """This rank's part of ``numbers``; the ranks' parts in order are the whole, and differ in length by at most
        one.
        """
        return numbers[len(numbers) * self.number // self.size : len(numbers) * (self.number + 1) // self.size]

    def deal(self, scenes: FreshScenes | FixedScenes, epoch: int, window: range) -> list[Batch]:
        """This rank's share of the micro-batches whose numbers are ``window``."""
        return list(scenes.micro_batches(epoch, window.start, window.stop))

    def average(self, parameters: list[nn.Parameter], weight: Tensor) -> Tensor:
        """Make every gradient the mean of the ranks' gradients, each weighed by its rank's ``weight`` []; the weight of
        all [].
        """
        return weight

    def gather(self, row: Tensor) -> Tensor:
        """Every rank's ``row``, in order: [C] -> [ranks, C]."""
        return row.unsqueeze(0)

    def total(self, tensor: Tensor) -> Tensor:
        """The sum over ranks, which may take the place of ``tensor``."""
        return tensor

    def any(self, flag: bool) -> bool:
        """Is ``flag`` set on any rank?"""
        return flag

    def once(self, function: Callable[[], T]) -> T:
        """What ``function`` returns on the first rank, where alone it is called; what it raises, all ranks raise."""
        return function()

    def broadcast_parameters(self, model: nn.Module) -> None:
        """Give every rank the first rank's parameters and buffers."""


class ProcessGroup(Ranks):
    """This process among those of torch's default process group. Every method is called by all ranks, in the same
    order.

    Raises:
        RankLost: from any method, when another rank is gone.
    """

    def __init__(self) -> None:
        self.size, self.number = dist.get_world_size(), dist.get_rank()

    def deal(self, scenes: FreshScenes | FixedScenes, epoch: int, window: range) -> list[Batch]:
        share = self.share(window)
        if share:
            return list(scenes.micro_batches(epoch, share.start, share.stop))
        # Nothing is left for this rank. It does the first micro-batch too, and counts for nothing.
        first = next(scenes.micro_batches(epoch, window.start, window.stop))
        return [replace(first, weight=torch.zeros_like(first.weight))]

    def average(self, parameters: list[nn.Parameter], weight: Tensor) -> Tensor:
        gradients = [parameter.grad for parameter in parameters if parameter.grad is not None]  # the same on all ranks
        # Over a weight of zero a mean is NaN; it is to count for nothing.
        own = torch.where(weight > 0, weight * torch.cat([gradient.flatten() for gradient in gradients]), 0)
        sums = self.total(torch.cat([own, weight.view(1)]))
        mean = sums[:-1] / sums[-1]
        for gradient, piece in zip(gradients, mean.split([gradient.numel() for gradient in gradients]), strict=True):
            gradient.copy_(piece.view_as(gradient))
        return sums[-1]

    def gather(self, row: Tensor) -> Tensor:
        rows = row.new_zeros(self.size, len(row))
        rows[self.number] = row
        return self.total(rows)  # every sum has one term that is not zero, so it is exact

    def total(self, tensor: Tensor) -> Tensor:
        self._together(dist.all_reduce, tensor)
        return tensor

    def any(self, flag: bool) -> bool:
        flags = torch.tensor([int(flag)])
        # between the hosts, also where the devices have a way of their own
        self._together(dist.all_reduce, flags, dist.ReduceOp.MAX)
        return bool(flags)

    def once(self, function: Callable[[], T]) -> T:
        outcome: list[tuple[Any, Exception | None]] = [(None, None)]
        if self.first:
            try:
                outcome = [(function(), None)]
            except Exception as error:  # noqa: BLE001 - to be raised on every rank, this one too
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
    """The device of this process where torchrun started several: each has a GPU of its own.

    Raises:
        ValueError: there are not as many GPUs.
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
    """The ranks that torchrun started, connected (gloo on CPU, nccl on CUDA); ``ALONE`` where it did not, or one
    only.
    """
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
