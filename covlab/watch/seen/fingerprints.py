"""Fingerprints of the samples that each model was trained on and evaluated on."""

import math
from collections import Counter, deque
from dataclasses import dataclass, field
from typing import NamedTuple

import torch
from torch import Tensor

from covlab.watch.seen.deferred import DeferredNumber, DeferredReads, value_of
from covlab.watch.seen.events import Forward
from covlab.watch.seen.isolation import readable_tensor
from covlab.watch.seen.location import CodeLocation
from covlab.watch.seen.models import CalledModel

TIMES_DRAWN = 3  # evaluations of a sample in one pass, in Monte Carlo dropout
SAMPLES_KEPT = 100_000  # per model: fingerprints of training, and of the evaluations at one path
MODELS_KEPT, PATHS_KEPT, BATCHES_KEPT = 16, 32, 4096
ELEMENTS, TOKENS = 256, 1024  # numbers of a sample that enter its fingerprint, of floating-point and of whole numbers
BATCHES_READ = 4  # training batches whose values are counted, to see whether they are continuous
VALUES_READ = 4096  # of such a batch
_INTEGERS = {1: torch.int8, 2: torch.int16, 4: torch.int32, 8: torch.int64}

Path = tuple[CodeLocation, ...]  #: the lines that led to a call, the innermost first


@dataclass(slots=True)
class CountedValues:
    """How different the samples of a batch are."""

    floating: bool
    different: DeferredNumber  #: values
    nonzero: DeferredNumber  #: values
    equal: DeferredNumber  #: logarithm of the chance that two samples are equal, if their columns are independent

    def are_continuous(self) -> bool:
        """Return whether there are so many different values that two samples are never equal by chance."""
        different, nonzero = value_of(self.different) or 0, value_of(self.nonzero) or 0
        return self.floating and different > max(32, nonzero / 2)


@dataclass(slots=True)
class EvaluatedBatch:
    """How many samples of an evaluated batch the model was trained on since the pass before."""

    number: int  #: of the pass
    samples: int
    trained: int


class EvaluationCall(NamedTuple):
    """Where and when a model was evaluated."""

    location: CodeLocation | None
    backwards: int  #: before it
    forward: Forward | None = None  #: if it ran with gradients

    def is_training(self) -> bool:
        """Return whether a backward came through it, but not one for its inputs, as in an attack."""
        return self.forward is not None and bool(self.forward.used_by) and not self.forward.differentiates_inputs


@dataclass
class Evaluations:
    """The evaluations of one model that were called on one path.

    A *pass* is a run of batches between which the model is not trained. A sample counts as trained on if that happened
    since the pass before: a correct cross-validation that resets its model evaluates what it trained on folds ago.
    """

    passes: int = 0
    trained_before: int = 0  #: training batches before the pass
    trained_before_last: int = 0  #: training batches before the previous pass
    in_evaluation_mode: bool = True
    random: bool = False  #: with dropout or batch statistics
    samples: set[int] = field(default_factory=set)
    trained: set[int] = field(default_factory=set)
    batches: deque[EvaluatedBatch] = field(default_factory=lambda: deque(maxlen=BATCHES_KEPT))
    call: EvaluationCall | None = None  #: the last one with dropout or batch statistics
    times: Counter[int] = field(default_factory=Counter)  #: such calls of each sample since the last backward

    def draws_samples(self) -> bool:
        """Return whether most samples were evaluated again and again, as Monte Carlo dropout does."""
        return 2 * sum(count >= TIMES_DRAWN for count in self.times.values()) > len(self.times)


class Samples:
    """The samples that one model was trained on, and its evaluations."""

    def __init__(self) -> None:
        self.trained: dict[int, int] = {}  # {fingerprint: number of the last training batch that contains it}
        self.evaluated_first: set[int] = set()  # before any training on them, as what a model labels for its training
        self.training_batches = 0
        self.optimizers = 0  # made so far; a new one trains a model again, as in the next fold of a cross-validation
        self.training_paths: set[Path] = set()
        self.evaluations: dict[Path, Evaluations] = {}
        self.pairs = self.equal_pairs = 0  # of samples within one training batch
        self.draws = 0  # samples that were trained on, with repetitions
        self.values: list[CountedValues] = []
        self.drawn_at: set[CodeLocation | None] = set()  # lines of earlier passes that evaluated samples repeatedly

    def draw_locations(self) -> set[CodeLocation | None]:
        """Return the lines at which the same samples were evaluated again and again, without training in between."""
        last = (at.call for at in self.evaluations.values() if at.draws_samples())
        return self.drawn_at | {call.location for call in last if call is not None}

    @property
    def share_by_chance(self) -> float:
        """Which share of new samples probably equals one that was trained on, if no sample is in both sets."""
        if self.values and all(map(CountedValues.are_continuous, self.values)):
            return 0.0
        if not self.pairs:
            return 1.0
        by_chance = (self.equal_pairs + 0.5) / self.pairs * len(self.trained)
        if self._has_many_columns and (
            not self.equal_pairs or 0.5 < self.equal_pairs / self.pairs * self._drawn_from < 1.6
        ):
            return 0.0  # within a batch, samples are equal only as often as where a loop draws the same one twice
        return min(1.0, by_chance)

    @property
    def _has_many_columns(self) -> bool:
        """Whether samples with independent columns would hardly ever be equal."""
        chances = [one.equal.value for one in self.values if one.equal.value is not None]
        return bool(chances) and max(chances) + math.log(len(self.trained) + 1) < -5

    @property
    def _drawn_from(self) -> float:
        """How many samples there are if the loop draws them at random, by how many different ones it drew."""
        different, low, high = len(self.trained), float(len(self.trained)), 1e9
        for _ in range(64):
            middle = math.sqrt(low * high)
            expected = -middle * math.expm1(-self.draws / middle)
            low, high = (middle, high) if expected < different else (low, middle)
        return low

    def train(self, fingerprints: list[int], optimizers: int) -> None:
        if optimizers != self.optimizers:
            self.optimizers = optimizers
            self.trained.clear()
            self.draws = 0
        self.training_batches += 1
        number = len(fingerprints)
        self.draws += number
        self.pairs += number * (number - 1) // 2
        counts: dict[int, int] = {}
        for one in fingerprints:
            self.equal_pairs += counts.get(one, 0)
            counts[one] = counts.get(one, 0) + 1
            if one in self.trained or len(self.trained) < SAMPLES_KEPT:
                self.trained[one] = self.training_batches

    def evaluate(
        self, path: Path, fingerprints: list[int], training: bool, random: bool, call: EvaluationCall, draws: bool
    ) -> None:
        if path not in self.evaluations and len(self.evaluations) >= PATHS_KEPT:
            del self.evaluations[next(iter(self.evaluations))]
        at = self.evaluations.setdefault(path, Evaluations())
        if not at.passes or at.trained_before != self.training_batches:
            at.passes, at.trained_before_last, at.trained_before = (
                at.passes + 1,
                at.trained_before,
                self.training_batches,
            )
        if draws:
            self._count_draws(at, fingerprints, call)
        at.in_evaluation_mode &= not training
        at.random |= random
        trained = [one for one in fingerprints if self.trained.get(one, 0) > at.trained_before_last]
        at.batches.append(EvaluatedBatch(at.passes, len(fingerprints), len(trained)))
        if len(at.samples) < SAMPLES_KEPT:
            at.samples.update(fingerprints)
            at.trained.update(trained)
        if len(self.evaluated_first) < SAMPLES_KEPT:
            self.evaluated_first.update(one for one in fingerprints if one not in self.trained)

    def _count_draws(self, at: Evaluations, fingerprints: list[int], call: EvaluationCall) -> None:
        if at.call is not None and at.call.backwards != call.backwards:
            if at.draws_samples():
                self.drawn_at.add(at.call.location)
            at.times.clear()
        at.call = call
        if len(at.times) < SAMPLES_KEPT:
            at.times.update(fingerprints)


class Fingerprints:
    """The fingerprints of each model's samples.

    A fingerprint joins two sums of 64 bits over a sample's numbers, each mixed with its position. So a sample has the
    same fingerprint in every batch, and two samples that differ have different ones.
    """

    def __init__(self) -> None:
        self.models: dict[int, Samples] = {}
        self.unusable: str | None = None  # why inputs could not be used
        self._constants: dict[tuple[torch.device, int], tuple[Tensor, Tensor, Tensor]] = {}

    def of(self, model: int) -> Samples:
        if model not in self.models and len(self.models) >= MODELS_KEPT:
            del self.models[next(iter(self.models))]
        return self.models.setdefault(model, Samples())

    def see_training(
        self, inputs: Tensor | None, path: Path | None, forward: Forward, optimizers: int, reads: DeferredReads
    ) -> None:
        """Take the fingerprints of the input [n, ...] of a training forward, after ``optimizers`` were made."""
        flat = self._flatten(inputs)
        if flat is None:
            return
        samples = self.of(forward.model)
        if path is not None:
            samples.training_paths.add(path)
        if len(flat) > 1 and len(samples.values) < BATCHES_READ:
            samples.values.append(_count_values(flat, reads))

        def receive(first: list[int]) -> None:
            fingerprints = _join(first)
            forward.fingerprints = fingerprints[:4]
            samples.train(fingerprints, optimizers)

        reads.vector(self._compute(flat), receive)

    def see_evaluation(
        self,
        model: CalledModel,
        inputs: Tensor | None,
        path: Path,
        call: EvaluationCall,
        training: bool,
        reads: DeferredReads,
    ) -> None:
        """Take the fingerprints of the input [n, ...] of an evaluation; ``training`` is the model's own."""
        flat = self._flatten(inputs)
        if flat is not None:
            samples, random = self.of(model.number), training and model.differs_in_evaluation
            draws = random or model.drops_in_evaluation

            def receive(values: list[int]) -> None:
                if not call.is_training():
                    samples.evaluate(path, _join(values), training, random, call._replace(forward=None), draws)

            reads.vector(self._compute(flat), receive)

    @torch.no_grad()
    def _flatten(self, tensor: Tensor | None) -> Tensor | None:
        """Return the numbers [n, m] of ``tensor`` [n, ...] that tell its samples apart, or None if nothing does."""
        flat = readable_tensor(tensor)
        if flat is None or flat.layout is not torch.strided or flat.dim() < 2 or flat.shape[0] == 0:
            self.unusable = "the model's first input is not a tensor of samples"
            return None
        flat = (torch.view_as_real(flat.resolve_conj()) if flat.is_complex() else flat).reshape(len(flat), -1)
        if flat.shape[1] < (3 if flat.is_floating_point() else 8):
            self.unusable = "a sample is too small to be distinguished from others"
            return None
        most = ELEMENTS if flat.is_floating_point() else TOKENS
        return flat[:, :: -(-flat.shape[1] // most)].contiguous()

    @torch.no_grad()
    def _compute(self, flat: Tensor) -> Tensor:
        """Return the two halves of the fingerprints [2 n] of ``flat`` [n, m]."""
        bits = flat.view(_INTEGERS[flat.element_size()]) if flat.is_floating_point() else flat
        key = flat.device, flat.shape[1]
        if key not in self._constants:
            if len(self._constants) >= PATHS_KEPT:
                self._constants.clear()
            self._constants[key] = _constants(flat.shape[1], flat.device)
        position, one, other = self._constants[key]
        mixed = _mix(bits.to(torch.int64) + position)
        return torch.cat([(mixed * one).sum(dim=1), (_mix(mixed ^ other) * other).sum(dim=1)])


def _constants(length: int, device: torch.device) -> tuple[Tensor, Tensor, Tensor]:
    """Return three odd random numbers for each position [length]."""
    generator = torch.Generator().manual_seed(0x5EED)
    drawn = torch.randint(-(2**63), 2**63 - 1, (length, 3), generator=generator, dtype=torch.int64) | 1
    position, one, other = drawn.T.contiguous().to(device)
    return position, one, other


def _mix(bits: Tensor) -> Tensor:
    """Return 64-bit numbers whose every bit depends on many bits of ``bits``, and differs wherever they differ."""
    bits = (bits ^ (bits >> 31)).mul_(0x2545F4914F6CDD1D)
    return bits.bitwise_xor_(bits >> 29)


def _join(halves: list[int]) -> list[int]:
    """Return one number for each pair of halves."""
    n = len(halves) // 2
    return [(one << 64) + other for one, other in zip(halves[:n], halves[n:], strict=True)]


@torch.no_grad()
def _count_values(flat: Tensor, reads: DeferredReads) -> CountedValues:
    values = flat.reshape(-1)[:VALUES_READ].sort().values
    equal = ((flat[1:] == flat[:-1]).sum(dim=0) + 0.5) / (len(flat) - 0.5)
    return CountedValues(
        flat.is_floating_point(),
        reads.number((values[1:] != values[:-1]).sum()),
        reads.number((values != 0).sum()),
        reads.number(equal.log().sum()),
    )
