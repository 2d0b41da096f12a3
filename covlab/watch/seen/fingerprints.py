"""Fingerprints of the samples that a model was trained on and evaluated on."""

from collections import Counter

import torch
from torch import Tensor

from covlab.watch.seen.deferred import DeferredReads
from covlab.watch.seen.events import Forward
from covlab.watch.seen.isolation import readable_tensor

SAMPLES_KEPT = 100_000  # fingerprints of training and of evaluation each
ELEMENTS = 128  # elements of a sample that enter its fingerprint
_INTEGERS = {1: torch.int8, 2: torch.int16, 4: torch.int32, 8: torch.int64}
_FACTORS = [((i + 1) * 0x9E3779B97F4A7C15 & 0x7FFFFFFFFFFFFFFF) | 1 for i in range(ELEMENTS)]


class Fingerprints:
    """Which samples were evaluated after a model was trained on them.

    A fingerprint is an exact integer sum over the bits of 128 elements of a sample, so the same sample has the same
    fingerprint in every batch. Samples that are too small to be told apart have none.
    """

    def __init__(self) -> None:
        self.trained: set[int] = set()
        self.evaluated: list[list[int]] = []  # by batch
        # The other order is correct in reinforcement learning: the model chooses an action, then learns the outcome.
        self.evaluated_after_training: set[int] = set()
        self.batches_since_training = 0  # evaluated batches
        # {(batches since training, was any sample of the batch trained on?): batches}
        self.positions: Counter[tuple[int, bool]] = Counter()
        self.evaluated_samples = 0
        self.unusable: str | None = None  # why inputs could not be used
        self._factors: dict[torch.device, Tensor] = {}

    def see(self, inputs: Tensor | None, reads: DeferredReads, forward: Forward | None) -> None:
        """Take the fingerprints of the first input [n, ...] of a training ``forward``; None: of an evaluation."""
        computed = self._compute(inputs)
        if computed is None:
            return

        def receive(values: list[int]) -> None:
            if forward is not None:
                forward.fingerprints = values[:4]
                self.batches_since_training = 0
                if len(self.trained) < SAMPLES_KEPT:
                    self.trained.update(values)
                return
            self.batches_since_training += 1
            if self.evaluated_samples < SAMPLES_KEPT:
                self.evaluated.append(values)
                self.evaluated_samples += len(values)
                trained_before = self.trained.intersection(values)
                self.evaluated_after_training |= trained_before
                self.positions[self.batches_since_training, bool(trained_before)] += 1

        reads.vector(computed, receive)

    @torch.no_grad()
    def _compute(self, tensor: Tensor | None) -> Tensor | None:
        """Return the fingerprints [n] of the samples of ``tensor`` [n, ...], or None if it has none."""
        flat = readable_tensor(tensor)
        if flat is None or flat.dim() < 2 or flat.shape[0] == 0:
            self.unusable = "the model's first input is not a tensor of samples"
            return None
        flat = (torch.view_as_real(flat.resolve_conj()) if flat.is_complex() else flat).reshape(len(flat), -1)
        if flat.shape[1] < (3 if flat.is_floating_point() else 16):
            self.unusable = "a sample is too small to be distinguished from others"
            return None
        flat = flat[:, :: max(1, flat.shape[1] // ELEMENTS)][:, :ELEMENTS].contiguous()
        if flat.is_floating_point():
            flat = flat.view(_INTEGERS[flat.element_size()])
        factors = self._factors.get(flat.device)
        if factors is None:
            factors = self._factors[flat.device] = torch.tensor(_FACTORS, device=flat.device)
        return (flat.to(torch.int64) * factors[: flat.shape[1]]).sum(dim=1)
