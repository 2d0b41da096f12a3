"""The symptom matrix: every fault under every optimizer, clipping and precision, against the same run without it."""

import csv
import importlib.resources
import itertools
import math
from collections.abc import Iterable
from concurrent.futures import ProcessPoolExecutor
from dataclasses import dataclass
from multiprocessing import get_context
from pathlib import Path
from statistics import mean, median
from typing import Any

import torch

from covlab.faults import FAULTS
from covlab.faults.evidence import detecting, examine
from covlab.faults.small_run import exhibit, finish

OPTIMIZERS: dict[str, dict[str, Any]] = {
    "adamw": {"optimizer": "adamw", "learning_rate": 3e-3, "weight_decay": 0.0},
    "sgd": {"optimizer": "sgd", "learning_rate": 0.3, "weight_decay": 0.0},
}
"""Without weight decay, so that an update's length says what the gradient does."""
CLIPS = {"clip": 1.0, "no clip": None}
PRECISIONS = ("fp32", "fp16")
CELLS = tuple(itertools.product(OPTIMIZERS, CLIPS, PRECISIONS))
"""(optimizer, clipping, precision)."""

WINDOWS = 24
SEEDS = (0, 1, 2)

SILENT = {
    "running_sum_in_step_branch": "no step is skipped in single precision, so the branch is always taken",
    "schedule_on_skipped_step": "no step is skipped in single precision",
    "sanitize_without_scaler": "half precision has a scaler, and the fault does nothing where there is one",
    "clip_before_unscale": "without clipping, or without a loss scale, there is no order to confuse",
    "scale_updated_inside_window": "single precision has no loss scale",
    "overflow_probe_wrong_key": "single precision has no scaler to ask",
}
"""Why a fault leaves no trace in some cells."""

ALIKE: dict[tuple[str, ...], str] = {
    ("schedule_per_step",): (
        "both count wrongly; the value tells them apart: as many times too often as a window has micro-batches, or a "
        "share of it"
    ),
    ("hidden_overflow",): (
        "without a loss scale all sanitize the same gradient; what they do to the scale is the only difference "
        "between them"
    ),
}
"""Why the same observables convict several faults."""

NUMBERS = ("train", "validation", "gradient_norm", "skipped", "clipped", "update_norm")
"""Of the last epoch: train, validation. Medians over the windows: gradient norm before clipping, update norm. Shares:
skipped, clipped.
"""


def measure_matrix(
    names: Iterable[str] = tuple(FAULTS),
    cells: Iterable[tuple[str, str, str]] = CELLS,
    seeds: Iterable[int] = SEEDS,
    workers: int = 2,
) -> list[dict]:
    """The matrix, or the part of it asked for: a row for each fault and cell, numbers as means over the seeds.

    A row holds the numbers with the fault and (``clean_…``) without it, and the observables that convict with
    every seed (``moved``, separated by spaces). ``diverged`` is the share of seeds stopped for their losses.
    """
    names, cells, seeds = tuple(names), tuple(cells), tuple(seeds)
    jobs = [(name, False, cell, seed) for name in names for cell in cells for seed in seeds]
    first = _first_alike(names)
    jobs += [(name, True, cell, seed) for name in sorted(set(first.values())) for cell in cells for seed in seeds]
    results = _run_all(jobs, workers)
    rows = []
    for name, cell in itertools.product(names, cells):
        bugged = [results[name, False, cell, seed] for seed in seeds]
        clean = [results[first[name], True, cell, seed] for seed in seeds]
        rows.append(
            dict(zip(("fault", "optimizer", "clipping", "precision"), (name, *cell), strict=True))
            | {number: mean(run[number] for run in bugged) for number in NUMBERS}
            | {f"clean_{number}": mean(run[number] for run in clean) for number in NUMBERS}
            | {
                "diverged": mean(run["diverged"] for run in bugged),
                "moved": " ".join(_common(run["moved"] for run in bugged)),
            }
            | {"clean_moved": " ".join(sorted({name for run in clean for name in run["moved"]}))}
        )
    return rows


def measure_confusion(seeds: Iterable[int] = range(5), workers: int = 2) -> dict[str, dict[str, float]]:
    """{fault: {observable: share of seeds in which it convicts}}, each fault in the setting of its exhibit; and
    "clean".
    """
    seeds = tuple(seeds)
    honest = [(name, True, None, seed) for name in sorted(set(_first_alike(tuple(FAULTS)).values())) for seed in seeds]
    results = _run_all([(name, False, None, seed) for name in FAULTS for seed in seeds] + honest, workers)
    moved = {name: [results[name, False, None, seed]["moved"] for seed in seeds] for name in FAULTS}
    moved["clean"] = [results[job]["moved"] for job in honest]
    return {
        name: {observable: mean(observable in run for run in runs) for observable in sorted(set().union(*runs))}
        for name, runs in moved.items()
    }


@dataclass(frozen=True)
class IndistinguishableFaults:
    """Faults that no observable tells apart in a cell; or, where none convicts, from an honest loop."""

    cell: tuple[str, str, str]
    observables: tuple[str, ...]  #: that convict, all of ``names`` alike
    names: tuple[str, ...]

    @property
    def reasons(self) -> list[str]:
        """Why: one for each fault where nothing convicts, else one for all.

        Raises:
            KeyError: it is not known why.
        """
        return [ALIKE[self.observables]] if self.observables else [f"{name}: {SILENT[name]}" for name in self.names]


def indistinguishable(rows: list[dict]) -> list[IndistinguishableFaults]:
    """What cannot be identified in a matrix, cell by cell."""
    found = []
    for cell in dict.fromkeys(map(_cell, rows)):
        alike: dict[str, list[str]] = {}
        for row in rows:
            if _cell(row) == cell:
                alike.setdefault(row["moved"], []).append(row["fault"])
        found += [
            IndistinguishableFaults(cell, tuple(moved.split()), tuple(names))
            for moved, names in alike.items()
            if len(names) > 1 or not moved
        ]
    return found


def _cell(row: dict) -> tuple[str, str, str]:
    return row["optimizer"], row["clipping"], row["precision"]


def load_matrix() -> list[dict]:
    """The whole matrix as it was last measured and published with covlab."""
    texts = ("fault", "optimizer", "clipping", "precision", "moved", "clean_moved")
    return [
        {key: value if key in texts else float(value) for key, value in row.items()} for row in _published("matrix.csv")
    ]


def load_confusion() -> dict[str, dict[str, float]]:
    """``confusion``'s result as it was last measured and published with covlab."""
    rows = {row.pop("fault"): row for row in _published("confusion.csv")}
    return {
        name: {observable: float(share) for observable, share in row.items() if float(share)}
        for name, row in rows.items()
    }


def _published(name: str) -> list[dict[str, str]]:
    return list(csv.DictReader(importlib.resources.files("covlab.faults").joinpath(name).read_text().splitlines()))


def write_matrix(rows: list[dict], path: Path) -> None:
    """As CSV, numbers to six digits."""
    with path.open("w", newline="") as file:
        writer = csv.DictWriter(file, rows[0], lineterminator="\n")
        writer.writeheader()
        writer.writerows(
            {key: f"{value:.6g}" if isinstance(value, float) else value for key, value in row.items()} for row in rows
        )


def _first_alike(names: tuple[str, ...]) -> dict[str, str]:
    """{fault: the first of those that need the same setting}: without the fault, their runs are one and the same."""
    settings = [repr(FAULTS[name].setting) for name in names]
    return {name: names[settings.index(setting)] for name, setting in zip(names, settings, strict=True)}


def _run_all(jobs: list[tuple], workers: int) -> dict[tuple, dict]:
    with ProcessPoolExecutor(workers, get_context("spawn"), _one_thread) as pool:
        return dict(zip(jobs, pool.map(_run, jobs, chunksize=4), strict=True))


def _one_thread() -> None:
    torch.set_num_threads(1)


def _run(job: tuple[str, bool, tuple[str, str, str] | None, int]) -> dict:
    """One run of a job (fault, without it?, cell or None for the exhibit's own, seed)."""
    name, without, cell, seed = job
    setting: dict[str, Any] = {}
    if cell is not None:
        optimizer, clip, precision = cell
        windows = FAULTS[name].setting.get("windows", WINDOWS)
        setting = OPTIMIZERS[optimizer] | {"clip": CLIPS[clip], "precision": precision, "windows": windows}
    run = finish(exhibit(name, seed, without, **setting))
    rows, last, most = run.ledger.rows, run.history[-1], run.recipe.clip
    return {
        "train": last["train"],
        "validation": last["validation"],
        "gradient_norm": median(row["gradient_norm"] for row in rows) if rows else math.nan,
        "skipped": mean(row["ran"] == 0 for row in rows) if rows else math.nan,
        "clipped": mean(most is not None and row["gradient_norm"] > most for row in rows) if rows else math.nan,
        "update_norm": median(row["update_norm"] for row in rows) if rows else 0.0,
        "diverged": float(run.window < run.recipe.windows),
        "moved": detecting(examine(run)),
    }


def _common(sets: Iterable[list[str]]) -> list[str]:
    return sorted(set.intersection(*map(set, sets)))
