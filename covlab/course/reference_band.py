"""Draw a student's learning curves over the band of correct reference runs, and say where they lie.

The runs were made by `covlab course band --update` and are shipped as data, `reference_runs.json`. Curves are compared
on a logarithmic scale, on which a factor is a distance:

    inside    the whole curve lies in the band
    scaled    the correct curve times one factor: what is logged is scaled, the learning is not
    shifted   the correct curve, some epochs later or earlier: slower or faster, but the same
    still     the curve hardly moves where the others fall
    diverged  the curve is not finite, or ends far above its beginning
    outside   the curve leaves the band in another way
"""

import json
import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import ArrayLike

from covlab import plots
from covlab.course import card
from covlab.networks.model import BackProjectionNet
from covlab.plots.training import over_band
from covlab.scenes.batch import Batch
from covlab.scenes.scenario import Scenario, preset
from covlab.scenes.simulator import Simulator, scene_generator
from covlab.scenes.streams import FixedScenes, FreshScenes
from covlab.training.loss import LossWeights
from covlab.training.progress import Silent
from covlab.training.recipe import Recipe
from covlab.training.trainer import Trainer

Setup = tuple[FreshScenes | FixedScenes, Batch, int]  # scenes, scenes to validate on, and windows

DATA = Path(__file__).with_name("reference_runs.json")
STUDENT = preset("student")
COLUMNS = ("train", "validation")
# Half the width of a band, in standard deviations of the references' logarithms. Compare each of the 16 references with
# the band of the other 15: its largest deviation over all epochs is mostly 2 to 3 standard deviations, and at most 4.7.
WIDTH = 5.0
LEAST = 0.02  # smallest standard deviation of a logarithm (2 %): with so few references a smaller one may be chance


@dataclass(frozen=True)
class BandReading:
    """Where a curve lies.

    kind: as listed at the top of this file. amount: the factor if "scaled"; the number of epochs if "shifted" (above 0:
    late); else the first epoch, counted from 1, outside the band (0 if "inside").
    """

    kind: str
    amount: float

    @property
    def sentence(self) -> str:
        """What it means, and where to look."""
        amount = self.amount
        epochs = "epoch" if abs(amount) == 1 else "epochs"
        late, slower = ("late", "slower") if amount > 0 else ("early", "faster")
        cause, whole = "", max(amount, 1 / amount) if self.kind == "scaled" else 0.0
        if whole > 1.5 and abs(whole - round(whole)) < 0.05 * whole:
            near = f"{'' if amount > 1 else '1/'}{round(whole)}"
            cause = f" The factor is close to {near}. Which number in your loop is {round(whole)}?"
        return {
            "inside": "inside the band, like the correct runs.",
            "scaled": (
                f"{amount:.2f} times the correct curve throughout: what is logged is scaled, and the learning is not. "
                f"Look at what is divided, and by what, before it is logged.{cause}"
            ),
            "shifted": (
                f"the correct curve, {abs(amount):.0f} {epochs} {late}: it learns the same, {slower}. Look at the "
                "learning rate, its warm-up and schedule, and at skipped steps."
            ),
            "still": (
                "hardly moves: no step is effective, or what is evaluated is not what is trained. Look at the "
                "norm of the updates, and at skipped steps."
            ),
            "diverged": (
                f"diverges, out of the band from epoch {amount:.0f} on: look at the learning rate, at the sign of "
                "the loss, and at gradients that are not finite."
            ),
            "outside": (
                f"leaves the band at epoch {amount:.0f}; neither one factor nor a delay explains it. Look at that "
                "epoch, and at what differs from the reference's settings."
            ),
        }[self.kind]


@dataclass(frozen=True)
class Band:
    """The curves of correct runs of one setup: mean and half width of their logarithm [epochs]."""

    middle: np.ndarray
    half: np.ndarray

    @classmethod
    def of(cls, curves: ArrayLike) -> "Band":
        """Make a band from the curves of correct runs [runs, epochs], all above 0."""
        logs = np.log(np.asarray(curves))
        variance = logs.var(axis=0, ddof=1)
        # neighboring epochs have similar spreads
        smooth = np.convolve(np.pad(variance, 2, mode="edge"), np.ones(5) / 5, mode="valid")
        return cls(logs.mean(axis=0), WIDTH * np.sqrt(smooth).clip(LEAST))

    def compare(self, curve: ArrayLike) -> BandReading:
        """Return where ``curve`` [epochs] lies; it may be shorter than the band.

        Raises ValueError for an empty curve, or one with more epochs than the band.
        """
        values = np.asarray(curve, dtype=float)
        if values.ndim != 1 or not 0 < len(values) <= len(self.middle):
            raise ValueError(f"curve must have 1 to {len(self.middle)} epochs, got shape {list(values.shape)}")
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
        if len(logs) > 1 and np.ptp(logs) < 0.1 * abs(middle[-1] - middle[0]):
            return BandReading("still", first)
        factor = float(np.median(logs - middle))
        shifts = [epochs for epochs in range(-len(logs) // 2, len(logs) // 2 + 1) if epochs]
        fits = [(self._distance(logs - factor), BandReading("scaled", math.exp(factor)))]
        fits += [(self._distance(logs, epochs), BandReading("shifted", epochs)) for epochs in shifts]
        distance, best = min(fits, key=lambda fit: fit[0])
        return best if distance <= 1 else BandReading("outside", first)

    def _distance(self, logs: np.ndarray, late: int = 0) -> float:
        """Return the largest deviation, in half widths, from the band shifted by ``late`` epochs to the right."""
        epochs = np.arange(len(logs)) - late
        seen = epochs < len(self.middle)  # the end of an early curve has no reference to compare with
        epochs = epochs.clip(0)[seen]
        return float(np.max(np.abs(logs[seen] - self.middle[epochs]) / self.half[epochs]))


class BandReadings(dict[str, BandReading]):
    """{column: reading}. It displays nothing at the end of a cell, because `band` has already shown a card."""

    def _ipython_display_(self) -> None:
        pass


def _overfit(scenario: Scenario, seed: int, device: str) -> Setup:
    """512 fixed scenes, memorized over 30 epochs."""
    scenes = Simulator(scenario, device).draw(512, scene_generator(seed, "overfit", device=device))
    return FixedScenes(scenes, micro_batch=32, seed=seed), scenes, 30 * 4


def _fresh(scenario: Scenario, seed: int, device: str) -> Setup:
    """Scenes never seen before, 16 epochs of 25 windows, validated on 512 held-out scenes."""
    scenes = FreshScenes(Simulator(scenario, device), micro_batch=32, micro_batches=100, seed=seed)
    return scenes, scenes.held_out(16), 16 * 25


SETUPS: dict[str, Callable[[Scenario, int, str], Setup]] = {"overfit": _overfit, "fresh": _fresh}


def reference_trainer(
    name: str, seed: int, *, device: str = "cpu", scenario: Scenario = STUDENT, **recipe: Any
) -> Trainer:
    """Return a trainer of a setup: only the NMSE as loss, AdamW, windows of 4 × 32 scenes.

    name: "overfit" or "fresh". scenario: of the scenes; the band is of `student` size. recipe: settings that differ, as
    in :class:`covlab.training.recipe.Recipe`.
    Raises ValueError for an unknown name.
    """
    scenes, validation, windows = SETUPS[_known(name)](scenario, seed, device)
    torch.manual_seed(seed)
    settings = Recipe(**({"windows": windows, "accumulation": 4} | recipe))
    model, weights = BackProjectionNet(scenario).to(device), LossWeights.only(lam_cov=1.0)
    return Trainer(model, scenes, validation, settings, weights=weights, progress=Silent())


def band(name: str, run: Trainer | Mapping[str, Sequence[float]] | Sequence[float]) -> BandReadings:
    """Draw a run's curves over the band of correct runs, say where they lie, and return {column: reading}.

    name: the setup, "overfit" or "fresh". run: a finished trainer; or {"train": values, "validation": values},
    one value per epoch, of which either may be missing; or one sequence of validation values.
    Raises ValueError for an unknown name or column, and for a curve that is empty or too long.
    """
    references, curves = load_references()[_known(name)], _curves(run)
    bands = {column: Band.of(references[column]) for column in curves}
    readings = BandReadings({column: bands[column].compare(values) for column, values in curves.items()})
    kinds = {column: reading.kind for column, reading in readings.items()}
    figure = over_band(bands, curves, kinds, buggy=bool(getattr(run, "faults", ())))
    text = "; ".join(f"{column}: {reading.sentence}" for column, reading in readings.items())
    plots.show(figure, f"The run's curves over the band of {len(references['seeds'])} correct runs. {text}")
    card(
        "Your run compared with the reference",
        [f"{column.capitalize()}: {reading.sentence}" for column, reading in readings.items()],
        "good" if set(kinds.values()) == {"inside"} else "open",
    )
    return readings


@cache
def load_references() -> dict[str, dict[str, Any]]:
    """Return {setup: {"seeds": […], "train": [[…]], "validation": [[…]], "made": {…}}}, one curve per seed."""
    return json.loads(DATA.read_text(encoding="utf-8"))


def measure_references(
    name: str, seeds: Sequence[int], on_seed: Callable[[int], None] = lambda seed: None
) -> dict[str, Any]:
    """Run the setup from every seed and return its entry of the data; call ``on_seed`` after each one."""
    runs = []
    for seed in seeds:
        runs.append(reference_trainer(name, seed).fit().history)
        on_seed(seed)
    rounded = {column: [[float(f"{row[column]:.5g}") for row in history] for history in runs] for column in COLUMNS}
    return {"seeds": list(seeds), **rounded}


def _known(name: str) -> str:
    if name not in SETUPS:
        raise ValueError(f"the setup must be one of {', '.join(SETUPS)}, got {name!r}")
    return name


def _curves(run: Trainer | Mapping[str, Sequence[float]] | Sequence[float]) -> dict[str, Sequence[float]]:
    if hasattr(run, "history"):
        return {column: [row[column] for row in run.history] for column in COLUMNS}
    curves: dict[str, Sequence[float]] = dict(run) if isinstance(run, Mapping) else {"validation": list(run)}
    if not curves or set(curves) - set(COLUMNS):
        raise ValueError(f"curves must be of {', '.join(COLUMNS)}, got {', '.join(map(repr, curves)) or 'none'}")
    return curves
