"""Streams of scenes: drawn afresh for every epoch, or the same few in another order."""

import math
from collections.abc import Iterator

import torch
from torch import Tensor

from covlab.arguments import whole_number
from covlab.scenes.batch import Batch, concatenate
from covlab.scenes.simulator import Simulator, scene_generator
from covlab.seams import injected_faults, take_seams


class FreshScenes:
    """Micro-batches of scenes never seen before; an epoch is only a place to pause and look.

    Micro-batch i of epoch e depends on (seed, e, i) alone, so a run can be taken up anywhere.
    """

    def __init__(self, simulator: Simulator, micro_batch: int, micro_batches: int, seed: int):
        whole_number(1).check("micro_batch", micro_batch)
        whole_number(1).check("micro_batches", micro_batches)
        self.simulator, self.micro_batch, self.seed = simulator, micro_batch, seed
        self._length = micro_batches
        self.faults = injected_faults()  #: names; empty on every honest run
        take_seams(self)

    @property
    def identity(self) -> dict[str, str | int]:
        """What decides which scenes come, in plain values."""
        return {"kind": "fresh", "micro_batch": self.micro_batch, "micro_batches": len(self), "seed": self.seed}

    def __len__(self) -> int:
        """Micro-batches an epoch."""
        return self._length

    def micro_batches(self, epoch: int, first: int = 0, stop: int | None = None) -> Iterator[Batch]:
        """The micro-batches of ``epoch`` from number ``first`` on, up to but not including ``stop``."""
        for index in range(first, len(self) if stop is None else stop):
            yield self.simulator.draw(self.micro_batch, self.generator("training", epoch, index))

    def held_out(self, micro_batches: int) -> Batch:
        """So many micro-batches for validation, from a stream of their own: never any of training's."""
        whole_number(1).check("micro_batches", micro_batches)
        return concatenate(
            [
                self.simulator.draw(self.micro_batch, self.generator("validation", 0, index))
                for index in range(micro_batches)
            ]
        )

    def generator(self, stream: str, epoch: int, index: int) -> torch.Generator:
        """The generator that draws micro-batch ``index`` of ``epoch`` in ``stream``, and nothing else."""
        return scene_generator(self.seed, stream, epoch, index, device=self.simulator.device)


class FixedScenes:
    """The same scenes every epoch, in an order that (seed, epoch) decides; the last micro-batch may be short."""

    def __init__(self, scenes: Batch, micro_batch: int, seed: int):
        whole_number(1).check("micro_batch", micro_batch)
        if len(scenes) == 0:
            raise ValueError("scenes must hold at least one scene, got none")
        self.scenes, self.micro_batch, self.seed = scenes, micro_batch, seed
        self.faults = injected_faults()  #: names; empty on every honest run
        self._kept: tuple[int | None, tuple[Tensor, ...]] = (None, ())

    @property
    def identity(self) -> dict[str, str | int]:
        """What decides which scenes come, in plain values."""
        return {"kind": "fixed", "micro_batch": self.micro_batch, "scenes": len(self.scenes), "seed": self.seed}

    def __len__(self) -> int:
        """Micro-batches an epoch."""
        return math.ceil(len(self.scenes) / self.micro_batch)

    def micro_batches(self, epoch: int, first: int = 0, stop: int | None = None) -> Iterator[Batch]:
        """The micro-batches of ``epoch`` from number ``first`` on, up to but not including ``stop``."""
        for scenes in self._order(epoch)[first:stop]:
            yield self.scenes[scenes]

    def _order(self, epoch: int) -> tuple[Tensor, ...]:
        """Which scenes each micro-batch of ``epoch`` holds; kept until another epoch is asked for."""
        if self._kept[0] != epoch:
            generator = scene_generator(self.seed, "order", epoch)
            order = torch.randperm(len(self.scenes), generator=generator).to(self.scenes.y.device)
            self._kept = epoch, order.split(self.micro_batch)
        return self._kept[1]
