"""The symptom matrix: run every fault with every optimizer, clipping and precision, and compare it with a clean run."""

import csv
import importlib.resources
import itertools
import math
from collections.abc import Iterator, Sequence
from concurrent.futures import ProcessPoolExecutor
from dataclasses import dataclass
from multiprocessing import get_context
from pathlib import Path
from statistics import mean, median
from typing import Annotated, Any

import torch

from covlab.arguments import SEED, checked, one_of, sequence, whole_number
from covlab.durable_files import write_atomically
from covlab.faults import FAULTS
from covlab.faults.evidence import detecting, examine
from covlab.faults.small_run import exhibit, finish

Cell = tuple[str, ...]

OPTIMIZERS: dict[str, dict[str, Any]] = {
    "adamw": {"optimizer": "adamw", "learning_rate": 3e-3, "weight_decay": 0.0},
    "sgd": {"optimizer": "sgd", "learning_rate": 0.3, "weight_decay": 0.0},
}
"""Without weight decay, so that the length of an update shows only the effect of the gradient."""
CLIPS = {"clip": 1.0, "no clip": None}
PRECISIONS = ("fp32", "fp16")
CELLS: tuple[Cell, ...] = tuple(itertools.product(OPTIMIZERS, CLIPS, PRECISIONS))  # a cell: one of each
CELL_COLUMNS = ("optimizer", "clipping", "precision")

WINDOWS = 24
SEEDS = (0, 1, 2)

SILENT = {
    "running_sum_in_step_branch": "no step is skipped in single precision, so the branch is always taken",
    "schedule_on_skipped_step": "no step is skipped in single precision",
    "sanitize_without_scaler": "half precision has a scaler, and the fault acts only without one",
    "clip_before_unscale": "without clipping, or without a loss scale, the order makes no difference",
    "scale_updated_inside_window": "single precision has no loss scale",
    "overflow_probe_wrong_key": "single precision has no scaler to ask",
}
"""Why a fault leaves no trace in some cells."""

ALIKE: dict[Cell, str] = {
    ("schedule_per_step",): "both change the advance per step: one to the accumulation count, one to a fraction of 1",
    ("hidden_overflow",): "without a loss scale all sanitize the same gradient; only their effect on a scale differs",
}
"""Why the same observables detect several faults."""

NUMBERS = ("train", "validation", "gradient_norm", "skipped", "clipped", "update_norm")
"""Values of the last epoch: train, validation. Medians over the windows: gradient norm before clipping, update norm.
Shares of the windows: skipped, clipped.
"""


Workers = Annotated[int, whole_number(1, 64)]
Seeds = Annotated[Sequence[int], sequence(SEED)]


@checked
def measure_matrix(
    names: Annotated[Sequence[str], sequence(one_of(FAULTS))] = tuple(FAULTS),
    cells: Annotated[Sequence[Cell], sequence(one_of(CELLS))] = CELLS,
    seeds: Seeds = SEEDS,
    workers: Workers = 2,
) -> list[dict]:
    """Measure the matrix, or a part of it: one row per fault and cell, numbers as means over the seeds.

    A row holds the numbers with the fault and (``clean_…``) without it. ``moved`` names the observables that detect the
    fault with every seed, separated by spaces. ``diverged`` is the share of seeds that stopped because of their losses.
    """
    return [
        dict(zip(("fault", *CELL_COLUMNS), (name, *cell), strict=True))
        | {number: mean(run[number] for run in buggy) for number in NUMBERS}
        | {f"clean_{number}": mean(run[number] for run in clean) for number in NUMBERS}
        | {"diverged": mean(run["diverged"] for run in buggy)}
        | {"moved": " ".join(sorted(set.intersection(*(run["moved"] for run in buggy))))}
        | {"clean_moved": " ".join(sorted(set.union(*(run["moved"] for run in clean))))}
        for name, cell, buggy, clean in _measure(tuple(names), tuple(cells), tuple(seeds), workers)
    ]


@checked
def measure_confusion(seeds: Seeds = (0, 1, 2, 3, 4), workers: Workers = 2) -> dict[str, dict[str, float]]:
    """Measure {fault: {observable: share of seeds in which it detects the fault}}, each fault in its own setting.

    "clean" stands for all runs without a fault.
    """
    moved: dict[str, list[set[str]]] = {}
    clean: dict[str, list[set[str]]] = {}
    for name, _, buggy, correct in _measure(tuple(FAULTS), ((),), tuple(seeds), workers):
        moved[name] = [run["moved"] for run in buggy]
        clean[repr(FAULTS[name].setting)] = [run["moved"] for run in correct]  # the same for every fault of a setting
    moved["clean"] = list(itertools.chain(*clean.values()))
    return {
        name: {observable: mean(observable in run for run in runs) for observable in sorted(set.union(*runs))}
        for name, runs in moved.items()
    }


@dataclass(frozen=True)
class IndistinguishableFaults:
    """Faults that no observable tells apart in a cell, or, if none detects them, from a correct run."""

    cell: Cell
    observables: tuple[str, ...]  #: that detect every one of ``names``
    names: tuple[str, ...]

    @property
    def reasons(self) -> list[str]:
        """Why: one reason per fault if nothing detects them, else one for all.

        Raises:
            KeyError: the reason is not known.
        """
        where = ", ".join(self.cell)
        if self.observables:
            if self.observables not in ALIKE:
                raise KeyError(
                    f"{' and '.join(self.names)} look the same in {where}: explain {self.observables} in ALIKE"
                )
            return [ALIKE[self.observables]]
        if unknown := [name for name in self.names if name not in SILENT]:
            raise KeyError(f"nothing detects {' and '.join(unknown)} in {where}: explain each in SILENT")
        return [f"{name}: {SILENT[name]}" for name in self.names]


def indistinguishable(rows: list[dict]) -> list[IndistinguishableFaults]:
    """Return the faults of a matrix that cannot be identified, cell by cell."""
    alike: dict[Cell, dict[str, list[str]]] = {}
    for row in rows:
        cell = tuple(row[column] for column in CELL_COLUMNS)
        alike.setdefault(cell, {}).setdefault(row["moved"], []).append(row["fault"])
    return [
        IndistinguishableFaults(cell, tuple(moved.split()), tuple(names))
        for cell, groups in alike.items()
        for moved, names in groups.items()
        if len(names) > 1 or not moved
    ]


def load_matrix() -> list[dict]:
    """Return the whole matrix as it was last measured and published with covlab."""
    texts = ("fault", *CELL_COLUMNS, "moved", "clean_moved")
    return [
        {key: value if key in texts else float(value) for key, value in row.items()} for row in _published("matrix.csv")
    ]


def load_confusion() -> dict[str, dict[str, float]]:
    """Return ``measure_confusion``'s result as it was last measured and published with covlab."""
    return {
        row.pop("fault"): {observable: float(share) for observable, share in row.items() if float(share)}
        for row in _published("confusion.csv")
    }


def _published(name: str) -> list[dict[str, str]]:
    return list(
        csv.DictReader(
            importlib.resources.files("covlab.faults").joinpath(name).read_text(encoding="utf-8").splitlines()
        )
    )


def write_matrix(rows: list[dict], path: Path) -> None:
    """Write ``rows`` as CSV, numbers to six digits."""

    def write(new: Path) -> None:
        with new.open("w", encoding="utf-8", newline="") as file:
            writer = csv.DictWriter(file, rows[0], lineterminator="\n")
            writer.writeheader()
            writer.writerows(
                {key: f"{value:.6g}" if isinstance(value, float) else value for key, value in row.items()}
                for row in rows
            )

    write_atomically(path, write)


def _measure(
    names: tuple[str, ...], cells: tuple[Cell, ...], seeds: tuple[int, ...], workers: int
) -> Iterator[tuple[str, Cell, list[dict], list[dict]]]:
    """Yield (fault, cell, runs with the fault, runs without it), one run per seed; cell (): the exhibit's setting."""
    # Faults with the same setting have the same clean run. Run it only once, for the first of them.
    first: dict[str, str] = {}
    runs_clean_as = {name: first.setdefault(repr(FAULTS[name].setting), name) for name in names}

    def jobs(name: str, cell: Cell, without: bool) -> list[tuple]:
        return [(runs_clean_as[name] if without else name, cell, without, seed) for seed in seeds]

    every = dict.fromkeys(job for key in itertools.product(names, cells, (False, True)) for job in jobs(*key))
    with ProcessPoolExecutor(workers, get_context("spawn"), torch.set_num_threads, (1,)) as pool:
        results = dict(zip(every, pool.map(_run, every, chunksize=4), strict=True))
    for name, cell in itertools.product(names, cells):
        buggy, clean = ([results[job] for job in jobs(name, cell, without)] for without in (False, True))
        yield name, cell, buggy, clean


def _run(job: tuple[str, Cell, bool, int]) -> dict:
    """Return the numbers of one run: of a fault, in a cell, without the fault or with it, with a seed."""
    name, cell, without, seed = job
    setting: dict[str, Any] = {}
    if cell:
        optimizer, clip, precision = cell
        windows = FAULTS[name].setting.get("windows", WINDOWS)
        setting = OPTIMIZERS[optimizer] | {"clip": CLIPS[clip], "precision": precision, "windows": windows}
    run = finish(exhibit(name, seed, without, **setting))
    rows, last, limit = run.ledger.rows, run.history[-1], run.recipe.clip or math.inf
    return {
        "train": last["train"],
        "validation": last["validation"],
        "gradient_norm": median([row["gradient_norm"] for row in rows] or [math.nan]),
        "skipped": mean([row["ran"] == 0 for row in rows] or [math.nan]),
        "clipped": mean([row["gradient_norm"] > limit for row in rows] or [math.nan]),
        "update_norm": median([row["update_norm"] for row in rows] or [0.0]),
        "diverged": float(run.window < run.recipe.windows),
        "moved": set(detecting(examine(run))),
    }
