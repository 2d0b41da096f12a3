"""The symptom matrix: every fault under every optimizer, clipping and precision, against the same run without it."""

import csv
import importlib.resources
import itertools
import math
from collections.abc import Iterable, Iterator
from concurrent.futures import ProcessPoolExecutor
from multiprocessing import get_context
from pathlib import Path
from statistics import mean, median

import torch

from covlab.faults import FAULTS
from covlab.faults.convictions import convicting, examine
from covlab.faults.stage import exhibit, finish

OPTIMIZERS = {"adamw": {"optimizer": "adamw", "learning_rate": 3e-3}, "sgd": {"optimizer": "sgd", "learning_rate": 0.3}}
CLIPS = {"clip": 1.0, "no clip": None}
PRECISIONS = ("fp32", "fp16")
CELLS = tuple(itertools.product(OPTIMIZERS, CLIPS, PRECISIONS))
"""(optimizer, clipping, precision)."""

WINDOWS = 24
SEEDS = (0, 1, 2)

NUMBERS = ("train", "validation", "gradient_norm", "skipped", "clipped", "update_norm")
"""Of the last epoch: train, validation. Medians over the windows: gradient norm before clipping, update norm. Shares: skipped, clipped."""


def measure(names: Iterable[str] = tuple(FAULTS), cells: Iterable[tuple[str, str, str]] = CELLS, seeds: Iterable[int] = SEEDS, workers: int = 2) -> list[dict]:
    """The matrix, or the part of it asked for: a row for each fault and cell, numbers as means over the seeds.

    A row holds the numbers with the fault and (``clean_…``) without it, and the observables that convict with
    every seed (``moved``, separated by spaces). ``diverged`` is the share of seeds stopped for their losses.
    """
    names, cells, seeds = tuple(names), tuple(cells), tuple(seeds)
    jobs = [(name, False, cell, seed) for name in names for cell in cells for seed in seeds]
    # Many faults need the same clean run; it is made once.
    like = {name: repr(sorted(FAULTS[name].setting.items(), key=str)) for name in names}
    first = {setting: name for name, setting in reversed(like.items())}
    jobs += [(name, True, cell, seed) for name in first.values() for cell in cells for seed in seeds]
    with ProcessPoolExecutor(workers, get_context("spawn"), _one_thread) as pool:
        results = dict(zip(jobs, pool.map(_run, jobs, chunksize=4), strict=True))
    rows = []
    for name, cell in itertools.product(names, cells):
        bugged = [results[name, False, cell, seed] for seed in seeds]
        clean = [results[first[like[name]], True, cell, seed] for seed in seeds]
        rows.append(
            dict(zip(("fault", "optimizer", "clipping", "precision"), (name, *cell), strict=True))
            | {number: mean(run[number] for run in bugged) for number in NUMBERS}
            | {f"clean_{number}": mean(run[number] for run in clean) for number in NUMBERS}
            | {"diverged": mean(run["diverged"] for run in bugged), "moved": " ".join(_common(run["moved"] for run in bugged))}
            | {"clean_moved": " ".join(sorted({name for run in clean for name in run["moved"]}))}
        )
    return rows


def confusion(seeds: Iterable[int] = range(5), workers: int = 2) -> dict[str, dict[str, float]]:
    """{fault: {observable: share of seeds in which it convicts}}, each fault in the setting of its exhibit; and "clean"."""
    seeds = tuple(seeds)
    jobs = [(name, without, None, seed) for name in FAULTS for without in (False, True) for seed in seeds]
    with ProcessPoolExecutor(workers, get_context("spawn"), _one_thread) as pool:
        results = dict(zip(jobs, pool.map(_run, jobs, chunksize=4), strict=True))
    moved = {name: [results[name, False, None, seed]["moved"] for seed in seeds] for name in FAULTS}
    moved["clean"] = [results[name, True, None, seed]["moved"] for name in FAULTS for seed in seeds]
    return {name: {observable: mean(observable in run for run in runs) for observable in sorted(set().union(*runs))} for name, runs in moved.items()}


def twins(rows: list[dict]) -> Iterator[tuple[str, tuple[str, ...], list[str]]]:
    """What the observables cannot tell apart: (cell, the observables that convict, the faults), by cell.

    Where no observable convicts, a fault cannot be told from an honest loop.
    """
    for cell in dict.fromkeys((row["optimizer"], row["clipping"], row["precision"]) for row in rows):
        alike: dict[str, list[str]] = {}
        for row in rows:
            if (row["optimizer"], row["clipping"], row["precision"]) == cell:
                alike.setdefault(row["moved"], []).append(row["fault"])
        for moved, names in alike.items():
            if len(names) > 1 or not moved:
                yield ", ".join(cell), tuple(moved.split()), names


def load() -> list[dict]:
    """The whole matrix as it was last measured and published with covlab."""
    text = importlib.resources.files("covlab.faults").joinpath("matrix.csv").read_text()
    texts = ("fault", "optimizer", "clipping", "precision", "moved", "clean_moved")
    return [{key: value if key in texts else float(value) for key, value in row.items()} for row in csv.DictReader(text.splitlines())]


def write(rows: list[dict], path: Path) -> None:
    """As CSV, numbers to six digits."""
    with path.open("w", newline="") as file:
        writer = csv.DictWriter(file, rows[0], lineterminator="\n")
        writer.writeheader()
        writer.writerows({key: f"{value:.6g}" if isinstance(value, float) else value for key, value in row.items()} for row in rows)


def _one_thread() -> None:
    torch.set_num_threads(1)


def _run(job: tuple[str, bool, tuple[str, str, str] | None, int]) -> dict:
    """One run of a job (fault, without it?, cell or None for the exhibit's own, seed)."""
    name, without, cell, seed = job
    setting = {}
    if cell is not None:
        optimizer, clip, precision = cell
        windows = FAULTS[name].setting.get("windows", WINDOWS)
        setting = OPTIMIZERS[optimizer] | {"clip": CLIPS[clip], "precision": precision, "windows": windows}
    run = finish(exhibit(name, seed, without, **setting))
    rows, last, clip = run.ledger.rows, run.history[-1], run.recipe.clip
    return {
        "train": last["train"],
        "validation": last["validation"],
        "gradient_norm": median(row["gradient_norm"] for row in rows) if rows else math.nan,
        "skipped": mean(row["ran"] == 0 for row in rows) if rows else math.nan,
        "clipped": mean(clip is not None and row["gradient_norm"] > clip for row in rows) if rows else math.nan,
        "update_norm": median(row["update_norm"] for row in rows) if rows else 0.0,
        "diverged": float(run.window < run.recipe.windows),
        "moved": convicting(examine(run)),
    }


def _common(sets: Iterable[list[str]]) -> list[str]:
    return sorted(set.intersection(*map(set, sets)))
