"""The reference band: a student's own learning curve, drawn over those of runs that are known to be right.

The runs were made by `covlab course band --update` and are shipped as data, `reference_runs.json`. Curves are compared
on a logarithmic scale, on which a factor is a distance:

    inside    the whole curve lies in the band
    scaled    the right curve times one factor: what is logged is scaled, the learning is not
    shifted   the right curve, some epochs later or earlier: slower or faster, but the same
    still     the curve hardly moves where the others fall
    diverged  it is not finite, or ends far above where it began
    outside   it leaves the band in another way
"""

import json
import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import ArrayLike

if TYPE_CHECKING:
    from covlab.scenes.batch import Batch
    from covlab.scenes.scenario import Scenario
    from covlab.scenes.streams import FixedScenes, FreshScenes
    from covlab.training.trainer import Trainer

    Setup = tuple[Scenario, FreshScenes | FixedScenes, Batch, int]  # and scenes to validate on, and windows

DATA = Path(__file__).with_name("reference_runs.json")
COLUMNS = ("train", "validation")
# Half a band is so many standard deviations of the references' logarithms. Of 16 references, each held against the band
# of the
# others, the largest deviation of any epoch is mostly 2 to 3 standard deviations, and 4.7 at most.
WIDTH = 5.0
LEAST = 0.02  # the least standard deviation of a logarithm believed of so few references: 2 %


@dataclass(frozen=True)
class BandReading:
    """Where a curve lies. kind: as above. amount: the factor of "scaled", the epochs of "shifted" (above 0: late), the
    first epoch (from 1) out of the band of any other."""

    kind: str
    amount: float

    @property
    def sentence(self) -> str:
        """What it means, and where to look."""
        amount = self.amount
        if self.kind == "inside":
            return "inside the band: a run like the others."
        if self.kind == "scaled":
            whole = max(amount, 1 / amount)
            count = (
                f" That is {'' if amount > 1 else 'one over '}{round(whole)}: what is there {round(whole)} of?"
                if abs(whole - round(whole)) < 0.05 * whole and whole > 1.5
                else ""
            )
            return (
                f"{amount:.2f} times the right curve throughout: what is logged is scaled, and the learning is not. "
                f"Look at what is divided, and by what, before it is logged.{count}"
            )
        if self.kind == "shifted":
            late = "late" if amount > 0 else "early"
            return (
                f"the right curve, {abs(amount):.0f} epochs {late}: it learns the same, "
                f"{'slower' if amount > 0 else 'faster'}. Look at the learning rate, "
                "its warm-up and schedule, and at skipped steps."
            )
        if self.kind == "still":
            return (
                "hardly moves: no step is effective, or what is evaluated is not what is trained. Look at the "
                "norm of the updates, and at skipped steps."
            )
        if self.kind == "diverged":
            return (
                f"diverges, out of the band from epoch {amount:.0f} on: look at the learning rate, at the sign of "
                "the loss, and at gradients that are not finite."
            )
        return (
            f"leaves the band at epoch {amount:.0f}, by no single factor and no delay. Look at that epoch, and at "
            "what differs from the reference's settings."
        )


@dataclass(frozen=True)
class Band:
    """What right runs of one set-up do: mean and half width of the logarithm of a curve [epochs]."""

    middle: np.ndarray
    half: np.ndarray

    @classmethod
    def of(cls, curves: ArrayLike) -> "Band":
        """From the curves of right runs [runs, epochs], all above 0."""
        logs = np.log(np.asarray(curves))
        variance = logs.var(axis=0, ddof=1)
        # neighbours' spreads are alike
        smooth = np.convolve(np.pad(variance, 2, mode="edge"), np.ones(5) / 5, mode="valid")
        return cls(logs.mean(axis=0), WIDTH * np.sqrt(smooth).clip(LEAST))

    def compare(self, curve: ArrayLike) -> BandReading:
        """Where ``curve`` [epochs], which may have stopped early, lies.

        Raises ValueError for an empty curve, or one of more epochs than the band.
        """
        values = np.asarray(curve, dtype=float)
        if values.ndim != 1 or not 0 < len(values) <= len(self.middle):
            raise ValueError(f"curve must be of 1 to {len(self.middle)} epochs, got shape {list(values.shape)}")
        finite = np.isfinite(values)
        if not finite.all():
            return BandReading("diverged", 1 + float(np.argmin(finite)))
        logs = np.log(values.clip(1e-12))
        middle, half = self.middle[: len(logs)], self.half[: len(logs)]
        out = np.abs(logs - middle) > half
        if not out.any():
            return BandReading("inside", 0)
        first = 1 + float(np.argmax(out))
        if logs[-1] > middle[-1] + half[-1] and logs[-1] > logs[0] + half[0]:
            return BandReading("diverged", first)
        fits = [
            (self._distance(logs - factor), BandReading("scaled", math.exp(factor)))
            for factor in [float(np.median(logs - middle))]
        ]
        fits += [
            (self._distance(logs, epochs), BandReading("shifted", epochs))
            for epochs in range(-len(logs) // 2, len(logs) // 2 + 1)
            if epochs
        ]
        distance, best = min(fits, key=lambda fit: fit[0])
        if len(logs) > 1 and np.ptp(logs) < 0.1 * abs(middle[-1] - middle[0]):
            return BandReading("still", first)
        return best if distance <= 1 else BandReading("outside", first)

    def _distance(self, logs: np.ndarray, late: int = 0) -> float:
        """The largest deviation from the band moved `late` epochs to the right, in half widths."""
        epochs = np.arange(len(logs)) - late
        seen = epochs < len(self.middle)  # an early curve's end lies beyond what the references have shown
        epochs = epochs.clip(0)[seen]
        return float(np.max(np.abs(logs[seen] - self.middle[epochs]) / self.half[epochs]))


class BandReadings(dict[str, BandReading]):
    """{column: position}; the card says it already, so that nothing follows when a cell ends with `band(…)`."""

    def _ipython_display_(self) -> None:
        pass


def _overfit(seed: int, device: str) -> "Setup":
    """512 fixed scenes, memorized over 30 epochs."""
    from covlab.scenes.scenario import preset
    from covlab.scenes.simulator import Simulator, scene_generator
    from covlab.scenes.streams import FixedScenes

    student = preset("student")
    scenes = Simulator(student, device).draw(512, scene_generator(seed, "overfit", device=device))
    return student, FixedScenes(scenes, micro_batch=32, seed=seed), scenes, 30 * 4


def _fresh(seed: int, device: str) -> "Setup":
    """Scenes never seen before, 16 epochs of 25 windows, validated on 512 held-out scenes."""
    from covlab.scenes.scenario import preset
    from covlab.scenes.simulator import Simulator
    from covlab.scenes.streams import FreshScenes

    student = preset("student")
    scenes = FreshScenes(Simulator(student, device), micro_batch=32, micro_batches=100, seed=seed)
    return student, scenes, scenes.held_out(16), 16 * 25


SETUPS: "dict[str, Callable[[int, str], Setup]]" = {"overfit": _overfit, "fresh": _fresh}


def reference_trainer(name: str, seed: int, *, device: str = "cpu", **recipe: Any) -> "Trainer":
    """A trainer of the set-up ``name``, "overfit" or "fresh": `student` size, NMSE alone, AdamW, windows of 4 × 32
    scenes.

    recipe: what differs, as of :class:`covlab.training.recipe.Recipe`. Raises ValueError for a name that is none.
    """
    import torch

    from covlab.networks.model import BackProjectionNet
    from covlab.training.loss import LossWeights
    from covlab.training.progress import Silent
    from covlab.training.recipe import Recipe
    from covlab.training.trainer import Trainer

    student, scenes, validation, windows = SETUPS[_known(name)](seed, device)
    torch.manual_seed(seed)
    settings = Recipe(**({"windows": windows, "accumulation": 4} | recipe))
    return Trainer(
        BackProjectionNet(student).to(device),
        scenes,
        validation,
        settings,
        weights=LossWeights.only(lam_cov=1.0),
        progress=Silent(),
    )


def band(name: str, run: "Trainer | Mapping[str, Sequence[float]] | Sequence[float]") -> BandReadings:
    """Draw a run's curves over the band of right runs and say where they lie; returns {column: position}.

    name: the set-up, "overfit" or "fresh". run: a trainer that has been run, or {"train": values, "validation":
        values}, one
    value an epoch, either may be left out, or one sequence of validation values.
    Raises ValueError for an unknown name or column, an empty curve or one that is too long.
    """
    from covlab import plots
    from covlab.course import card
    from covlab.plots.training import over_band

    references, curves = load_references()[_known(name)], _curves(run)
    bands = {column: Band.of(references[column]) for column in curves}
    readings = BandReadings({column: bands[column].compare(values) for column, values in curves.items()})
    faults = getattr(run, "faults", ())
    figure = over_band(
        bands, curves, {column: reading.kind for column, reading in readings.items()}, bugged=bool(faults)
    )
    said = "; ".join(f"{column}: {reading.sentence}" for column, reading in readings.items())
    plots.show(figure, f"The run's curves over the band of {len(references['seeds'])} right runs. {said}")
    inside = all(reading.kind == "inside" for reading in readings.values())
    card(
        "Your run beside the reference",
        [f"{column.capitalize()}: {reading.sentence}" for column, reading in readings.items()],
        "good" if inside else "open",
    )
    return readings


@cache
def load_references() -> dict[str, dict[str, Any]]:
    """{set-up: {"seeds": […], "train": [[…]], "validation": [[…]], "made": {…}}}, one curve a seed."""
    return json.loads(DATA.read_text(encoding="utf-8"))


def measure_references(
    name: str, seeds: Sequence[int], told: Callable[[int], None] = lambda seed: None
) -> dict[str, Any]:
    """Run the set-up from every seed; returns its entry of the data."""
    runs = []
    for seed in seeds:
        runs.append(reference_trainer(name, seed).fit().history)
        told(seed)
    rounded = {column: [[float(f"{row[column]:.5g}") for row in history] for history in runs] for column in COLUMNS}
    return {"seeds": list(seeds), **rounded}


def _known(name: str) -> str:
    if name not in SETUPS:
        raise ValueError(f"the set-up must be one of {', '.join(SETUPS)}, got {name!r}")
    return name


def _curves(run: "Trainer | Mapping[str, Sequence[float]] | Sequence[float]") -> dict[str, Sequence[float]]:
    if hasattr(run, "history"):
        return {column: [row[column] for row in run.history] for column in COLUMNS}
    curves: dict[str, Sequence[float]] = dict(run) if isinstance(run, Mapping) else {"validation": list(run)}
    if not curves or set(curves) - set(COLUMNS):
        raise ValueError(f"curves must be of {', '.join(COLUMNS)}, got {', '.join(map(repr, curves)) or 'none'}")
    return curves
