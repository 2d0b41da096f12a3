"""Streams of scenes: new scenes in every epoch, or the same few in a new order."""

import math
from collections.abc import Iterator
from typing import Annotated

import torch
from torch import Tensor

from covlab.arguments import MOST, Count, Index, Seed, Text, checked, whole_number
from covlab.scenes.batch import Batch, concatenate
from covlab.scenes.simulator import Simulator, scene_generator
from covlab.seams import injected_faults, take_seams

Stop = Annotated[int | None, whole_number(0, MOST).or_none("the end")]


class FreshScenes:
    """Micro-batches of new scenes. Number i of epoch e depends only on (seed, e, i), so a run can resume anywhere."""

    @checked
    def __init__(self, simulator: Simulator, micro_batch: Count, micro_batches: Count, seed: Seed):
        self.simulator, self.micro_batch, self.seed, self._length = simulator, micro_batch, seed, micro_batches
        self.faults = injected_faults()  #: names; empty without injected faults
        take_seams(self)

    @property
    def identity(self) -> dict[str, str | int]:
        """The plain values that determine the scenes."""
        return {"kind": "fresh", "micro_batch": self.micro_batch, "micro_batches": len(self), "seed": self.seed}

    def __len__(self) -> int:
        """Micro-batches per epoch."""
        return self._length

    @checked
    def micro_batches(self, epoch: Index, first: Index = 0, stop: Stop = None) -> Iterator[Batch]:
        """Yield the micro-batches of ``epoch`` from number ``first`` on, up to but not including ``stop``."""
        for index in range(first, len(self) if stop is None else stop):
            yield self.simulator.draw(self.micro_batch, self.generator("training", epoch, index))

    @checked
    def held_out(self, micro_batches: Count) -> Batch:
        """Draw micro-batches for validation, from a stream that training never uses."""
        generators = (self.generator("validation", 0, index) for index in range(micro_batches))
        return concatenate([self.simulator.draw(self.micro_batch, generator) for generator in generators])

    def generator(self, stream: Text, epoch: Index, index: Index) -> torch.Generator:
        """Return the generator that draws micro-batch ``index`` of ``epoch`` in ``stream``."""
        return scene_generator(self.seed, stream, epoch, index, device=self.simulator.device)


class FixedScenes:
    """The same scenes in every epoch, in an order that depends on (seed, epoch). The last micro-batch may be short."""

    @checked
    def __init__(self, scenes: Batch, micro_batch: Count, seed: Seed):
        self.scenes, self.micro_batch, self.seed = scenes, micro_batch, seed
        self.faults = injected_faults()  #: names; empty without injected faults
        self._kept: tuple[int | None, tuple[Tensor, ...]] = (None, ())

    @property
    def identity(self) -> dict[str, str | int]:
        """The plain values that determine the scenes."""
        return {"kind": "fixed", "micro_batch": self.micro_batch, "scenes": len(self.scenes), "seed": self.seed}

    def __len__(self) -> int:
        """Micro-batches per epoch."""
        return math.ceil(len(self.scenes) / self.micro_batch)

    @checked
    def micro_batches(self, epoch: Index, first: Index = 0, stop: Stop = None) -> Iterator[Batch]:
        """Yield the micro-batches of ``epoch`` from number ``first`` on, up to but not including ``stop``."""
        for scenes in self._order(epoch)[first:stop]:
            yield self.scenes[scenes]

    def _order(self, epoch: int) -> tuple[Tensor, ...]:
        """Return the indices of the scenes of each micro-batch of ``epoch``, cached for one epoch."""
        if self._kept[0] != epoch:
            generator = scene_generator(self.seed, "order", epoch)
            order = torch.randperm(len(self.scenes), generator=generator).to(self.scenes.y.device)
            self._kept = epoch, order.split(self.micro_batch)
        return self._kept[1]
