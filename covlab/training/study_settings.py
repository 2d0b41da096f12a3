"""What all trials of a study share. Reading it needs no Optuna, so `covlab tune --help` works without it."""

import inspect
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any

from covlab.arguments import LARGEST, Allowed, check_fields, interval, mapping, number, one_of, text, whole_number
from covlab.scenes.scenario import PRESETS, preset
from covlab.training.loss import LossWeights
from covlab.training.recipe import FIELDS as RECIPE
from covlab.training.recipe import PRECISIONS, Recipe
from covlab.training.run_config import FIELDS as RUN
from covlab.training.run_config import NETWORKS, WIDTH, configure

if TYPE_CHECKING:
    from optuna.trial import Trial

STORAGE = "sqlite:///studies.db"
SEARCH = {
    "learning_rate": (3e-4, 3e-2),
    "lam_ortho": (1e-5, 1e-1),
    "lam_cross": (1e-5, 1e-1),
    "lam_gap": (1e-4, 1e-1),
    "lam_K": (1e-3, 1.0),
    "lam_subspace_align": (1e-3, 1.0),
    "lam_peak_contrast": (1e-3, 1.0),
}
"""The default search: low and high of each setting, on a logarithmic scale. ``lam_cov`` stays 1, because under AdamW a
common factor of all weights changes nothing. ``lam_cov_pred`` is left out, because it weights the same error in a
network without blend or stages. The width is searched between a quarter of the network's default and twice the default.
"""


class StudyError(RuntimeError):
    """A study cannot be opened or has other settings; the message names it."""


FIELDS = {
    "preset": one_of(PRESETS),
    "network": one_of(NETWORKS),
    "precision": one_of(PRECISIONS),
    "seed": RUN["seed"],
    "windows": RECIPE["windows"],
    "epoch": RUN["windows_per_epoch"],
    "micro_batch": RUN["micro_batch"],
    "accumulation": RECIPE["accumulation"],
    "validation": whole_number(1, 2**20),
    "heartbeat": whole_number(1, 86_400),
    "search": mapping(
        text, Allowed("(low, high)", lambda bounds: isinstance(bounds, tuple | list) and len(bounds) == 2)
    ).or_none("the default"),
}
"""What each setting of a study may be. ``Settings`` checks the bounds of ``search`` itself."""

TRIALS = whole_number(1, 1_000_000)


@dataclass(frozen=True, kw_only=True)
class Settings:
    """What all trials of a study share; the worker that creates the study stores them in it.

    Raises:
        ValueError: a setting is out of its range; the message names it.
    """

    preset: str = "student"
    network: str = "back-projection"
    windows: int = 600  #: optimizer steps per trial
    epoch: int = 60  #: windows between validations; each validation may prune the trial (stop it early)
    micro_batch: int = 32
    accumulation: int = 4
    precision: str = "fp32"
    #: seed of scenes and initial parameters; all trials share it, so they differ only in their settings
    seed: int = 0
    validation: int = 1024  #: scenes, from another stream than the validation scenes of ``covlab train``
    heartbeat: int = 30  #: seconds between a worker's heartbeats; after two missed ones another worker takes its trial
    #: {name: (low, high)}; low = high fixes a value; None: ``SEARCH`` and the width
    search: dict[str, tuple[float, float]] | None = None

    def __post_init__(self) -> None:
        check_fields(self, FIELDS)
        if self.search is None:
            object.__setattr__(self, "search", SEARCH | {"width": (max(1, self._width // 4), 2 * self._width)})
        object.__setattr__(self, "search", {name: tuple(bounds) for name, bounds in sorted(self.bounds.items())})
        known = one_of(sorted({"learning_rate", "width", *LossWeights().values()}))
        for name, bounds in self.bounds.items():
            known.check("each name in search", name)
            if not (name.startswith("lam_") and bounds == (0, 0)):  # (0, 0) switches a term off
                end = {"width": WIDTH, "learning_rate": RECIPE["learning_rate"]}.get(
                    name, number(above=0, most=LARGEST)
                )
                interval(end).check(f"search of {name}", bounds)
            if name.startswith("lam_"):
                try:
                    LossWeights().updated("search", **{name: bounds[1]})
                except ValueError as error:
                    raise ValueError(f"search: {error}") from None

    @property
    def bounds(self) -> dict[str, tuple[float, float]]:
        """Low and high of every setting that is searched or fixed."""
        assert self.search is not None  # __post_init__ filled it in
        return self.search

    @property
    def default(self) -> dict[str, float]:
        """The values of the first trial: those of a plain run, clamped to the search."""
        plain = LossWeights().values() | {"learning_rate": Recipe(windows=1).learning_rate, "width": self._width}
        return {name: min(max(plain[name], low), high) for name, (low, high) in self.bounds.items() if low < high}

    @property
    def _width(self) -> int:
        return inspect.signature(NETWORKS[self.network]).parameters["width"].default

    def ask(self, trial: "Trial") -> dict[str, float]:
        """Propose a value for every setting that is searched, and add the fixed ones."""
        values: dict[str, float] = {}
        for name, (low, high) in self.bounds.items():
            if not low < high:
                values[name] = low
            elif name == "width":
                values[name] = trial.suggest_int(name, int(low), int(high), log=True)
            else:
                values[name] = trial.suggest_float(name, low, high, log=True)
        return values

    def config(self, values: dict[str, float], origin: str) -> dict[str, Any]:
        """Return the configuration of a run with ``values``, for :func:`covlab.training.run_config.build`."""
        recipe = Recipe(windows=self.windows, accumulation=self.accumulation, precision=self.precision)
        if "learning_rate" in values:
            recipe = replace(recipe, learning_rate=values["learning_rate"])
        width = values.get("width")
        weights = LossWeights().updated(
            origin, **{name: value for name, value in values.items() if name.startswith("lam_")}
        )
        return configure(
            preset(self.preset),
            NETWORKS[self.network].__name__,
            False,
            self.seed,
            self.micro_batch,
            self.epoch,
            recipe,
            weights,
            None if width is None else int(width),
        )
