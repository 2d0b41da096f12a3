"""Measure the cost of a window as surfaces, snapshots, batches and ranks grow, and which operations take the time.

    covlab bench scale [--json benchmarks/results/scale.json] [--write]

Times are processor time of one thread, the median over windows, with the NMSE as the only loss term and fresh scenes.
Rows marked * are extrapolated by a line a + b·x that is fitted to the measured rows; x is the quantity that grows.
`--write` puts the tables into benchmarks/README.md, section "Scale".
"""

import argparse
import json
import multiprocessing
import os
import platform
import statistics
import tempfile
import time
from collections.abc import Callable, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import covlab  # noqa: F401  (sets the thread policy, which must happen before torch loads)

# isort: split

import torch
from torch import Tensor, nn
from torch.profiler import ProfilerActivity, profile

from covlab.networks.model import BackProjectionNet
from covlab.scenes.scenario import Scenario, preset
from covlab.scenes.simulator import Simulator, scene_generator
from covlab.scenes.streams import FreshScenes
from covlab.training.loss import LossWeights
from covlab.training.progress import Silent
from covlab.training.ranks import ALONE, Ranks, joined
from covlab.training.recipe import Recipe
from covlab.training.trainer import Trainer

README = Path(__file__).parent / "README.md"
NMSE = LossWeights.only(lam_cov=1.0)
FULL = preset("full")
BEGIN, END = "<!-- scale: written by benchmarks/scale.py -->", "<!-- scale: end -->"


def surface(side: int) -> Scenario:
    return replace(FULL, name=f"{side}x{side}", ris_rows=side, ris_columns=side)


def make(scenario: Scenario, micro_batch: int, accumulation: int = 1, ranks: Ranks = ALONE) -> Trainer:
    torch.manual_seed(0)
    simulator = Simulator(scenario)
    recipe = Recipe(windows=100_000, accumulation=accumulation)
    validation = simulator.draw(1, scene_generator(0, "validation"))
    return Trainer(
        BackProjectionNet(scenario),
        FreshScenes(simulator, micro_batch, 1000, 0),
        validation,
        recipe,
        NMSE,
        progress=Silent(),
        ranks=ranks,
    )


def milliseconds(run: Trainer, windows: int) -> tuple[float, float, float]:
    """Return median milliseconds to draw and to train a window, and megabytes of parameters, gradients and moments."""
    source = run.draw_windows(0)
    draw: list[float] = []
    train: list[float] = []
    for number in range(windows + 2):
        began = time.process_time()
        window = next(source)
        drawn = time.process_time()
        run.train_window(window)
        if number >= 2:
            draw.append(drawn - began)
            train.append(time.process_time() - drawn)
    state = 4 * 4 * sum(parameter.numel() for parameter in run.parameters) / 1e6
    return 1e3 * statistics.median(draw), 1e3 * statistics.median(train), state


def grown(
    name: str, values: Sequence[int], make_run: Callable[[int], Trainer], windows: int, beyond: Sequence[int]
) -> list[dict[str, Any]]:
    """Return the rows of one quantity that grows: measured for ``values``, then extrapolated to ``beyond``."""
    rows: list[dict[str, Any]] = []
    for value in values:
        draw, train, state = milliseconds(make_run(value), windows)
        rows.append(
            {
                "grows": name,
                "value": value,
                "draw_ms": draw,
                "train_ms": train,
                "state_mb": state,
                "extrapolated": False,
            }
        )
    x = torch.tensor([[1.0, row["value"]] for row in rows], dtype=torch.float64)
    measured = list(rows)
    for value in beyond:
        line: dict[str, Any] = {"grows": name, "value": value, "extrapolated": True}
        for column in ("draw_ms", "train_ms", "state_mb"):
            # Fit relative errors, because with absolute ones the line could be negative for small values.
            y = torch.tensor([row[column] for row in measured], dtype=torch.float64)
            a, b = (
                torch.linalg.lstsq(x / y[:, None], torch.ones(len(y), 1, dtype=torch.float64))
                .solution.squeeze(1)
                .tolist()
            )
            line[column] = a + b * value
        rows.append(line)
    return rows


def one_rank(size: int, number: int, folder: Path, windows: int) -> None:
    os.environ.update(
        WORLD_SIZE=str(size),
        RANK=str(number),
        LOCAL_RANK=str(number),
        MASTER_ADDR="127.0.0.1",
        MASTER_PORT=str(29400 + os.getppid() % 1000),
    )
    with joined("cpu") as ranks:
        run = make(FULL, 32, accumulation=4, ranks=ranks)
        spent = {"average": 0.0}
        original = ranks.average

        def average(parameters: list[nn.Parameter], weight: Tensor) -> Tensor:
            ranks.any(False)  # wait for the others here, so that only the sum itself is counted
            began = time.process_time()
            result = original(parameters, weight)
            spent["average"] += time.process_time() - began
            return result

        if size > 1:
            ranks.average = average  # type: ignore[method-assign]  # in this process alone
        draw, train, _ = milliseconds(run, windows)
        (folder / f"{size}-{number}.json").write_text(
            json.dumps({"window_ms": draw + train, "sum_ms": 1e3 * spent["average"] / (windows + 2)})
        )


def by_ranks(sizes: Sequence[int], windows: int) -> list[dict[str, Any]]:
    """Return a row per number of ranks: the slowest rank's time per window of 4 × 32 scenes, and the all-reduce's."""
    rows = []
    with tempfile.TemporaryDirectory() as folder:
        for size in sizes:
            processes = [
                multiprocessing.get_context("fork").Process(target=one_rank, args=(size, number, Path(folder), windows))
                for number in range(size)
            ]
            for process in processes:
                process.start()
            for process in processes:
                process.join()
            seen = [json.loads((Path(folder) / f"{size}-{number}.json").read_text()) for number in range(size)]
            slowest = max(seen, key=lambda row: row["window_ms"])
            rows.append(
                {"ranks": size, "window_ms": slowest["window_ms"], "sum_ms": max(row["sum_ms"] for row in seen)}
            )
    return rows


def where(windows: int) -> list[dict[str, Any]]:
    """Return the ten operations that take most processor time in windows at full size, with their shares and calls."""
    run = make(FULL, 32, accumulation=4)
    source = run.draw_windows(0)
    run.train_window(next(source))
    with profile(activities=[ProfilerActivity.CPU]) as seen:
        for _ in range(windows):
            run.train_window(next(source))
    events = [event for event in seen.key_averages() if event.self_cpu_time_total > 0]
    total = sum(event.self_cpu_time_total for event in events)
    events.sort(key=lambda event: -event.self_cpu_time_total)
    return [
        {"operation": event.key, "share": event.self_cpu_time_total / total, "calls": event.count / windows}
        for event in events[:10]
    ]


def text(found: dict[str, Any]) -> str:
    lines = [
        BEGIN,
        (
            f"`{found['command']}`, torch {found['torch']}, {found['processor']}, one thread. Milliseconds of "
            "processor time per window; * extrapolated."
        ),
        "",
    ]
    lines += [
        "| grows | value | drawing the scenes | training on them | parameters, gradients, moments |",
        "|---|---|---|---|---|",
    ]
    for row in found["grown"]:
        mark = "*" if row["extrapolated"] else ""
        lines.append(
            f"| {row['grows']} | {row['value']:,}{mark} | {row['draw_ms']:,.1f} ms | {row['train_ms']:,.1f} ms | "
            f"{row['state_mb']:,.0f} MB |"
        )
    lines += [
        "",
        "| ranks | slowest rank's processor time per window of 4 × 32 | of which the all-reduce | vs. one rank |",
        "|---|---|---|---|",
    ]
    one = found["ranks"][0]["window_ms"]
    for row in found["ranks"]:
        lines.append(
            f"| {row['ranks']} | {row['window_ms']:,.1f} ms | {row['sum_ms']:,.1f} ms | {row['window_ms'] / one:.2f} |"
        )
    lines += ["", "| where the time goes at full size | share | calls per window |", "|---|---|---|"]
    lines += [f"| `{row['operation']}` | {row['share']:.1%} | {row['calls']:.0f} |" for row in found["where"]]
    return "\n".join([*lines, END])


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--windows", type=int, default=10, help="number of windows of each measurement")
    parser.add_argument("--small", action="store_true", help="measure only a few sizes, to check that it runs")
    parser.add_argument("--json", type=Path, help="also write the results here")
    parser.add_argument("--write", action="store_true", help="put the tables into benchmarks/README.md")
    options = parser.parse_args()
    sides, batches, lengths, sizes = (
        ((4, 6), (8, 16), (8, 16), (1, 2))
        if options.small
        else ((4, 6, 12, 16), (8, 32, 128, 256), (8, 16, 32, 64), (1, 2, 4))
    )
    ranks = by_ranks(sizes, options.windows)  # first, because a process cannot be forked after a backward
    grows = grown(
        "N, elements of the surface",
        [side**2 for side in sides],
        lambda n: make(surface(round(n**0.5)), 32),
        options.windows,
        [1024, 4096],
    )
    grows += grown("L, snapshots", lengths, lambda n: make(replace(FULL, snapshots=n), 32), options.windows, [256])
    grows += grown("scenes per window", batches, lambda n: make(FULL, n), options.windows, [4096])
    found = {
        "command": "covlab bench scale"
        + (f" --windows {options.windows}" if options.windows != 10 else "")
        + (" --small" if options.small else ""),
        "torch": torch.__version__,
        "processor": platform.machine(),
        "grown": grows,
        "ranks": ranks,
        "where": where(max(2, options.windows // 2)),
    }
    print(text(found))
    if options.json:
        options.json.parent.mkdir(parents=True, exist_ok=True)
        options.json.write_text(json.dumps(found, indent=1) + "\n")
    if options.write:
        before, _, rest = README.read_text().partition(BEGIN)
        README.write_text(before + text(found) + rest.partition(END)[2])


if __name__ == "__main__":
    main()
