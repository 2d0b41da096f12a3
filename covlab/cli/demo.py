"""`covlab demo`: for a classroom's screen. The difference first, two live curves from one seed, the verdict last."""

import math
import random
import sys
from collections.abc import Callable, Sequence
from contextlib import nullcontext
from statistics import median

import click
from rich.columns import Columns
from rich.console import Console
from rich.live import Live
from rich.panel import Panel
from rich.syntax import Syntax
from rich.table import Table

from covlab.faults import FAULTS
from covlab.faults.case import Symptom
from covlab.faults.evidence import OBSERVABLES, detecting, examine
from covlab.faults.small_run import LEARNING_RATES, exhibit, in_turn
from covlab.faults.switch import Fault
from covlab.training.recipe import OPTIMIZERS
from covlab.training.trainer import Trainer

EPOCHS = 30
SCENES, MICRO_BATCH = 480, 32
MARKS = ("o", "x")

HIDDEN = (
    "guard_by_assert",
    "oracle_writes_unread_field",
    "sanitize_without_scaler",
    "nan_loss_sanitized",
    "checkpoint_without_average",
)
"""Faults that leave no trace in the curves or the ledger of a healthy run: no mystery for a class."""


@click.group()
def demo() -> None:
    """Demonstrations for a class."""


@demo.command("scaling-bug")
@click.option("--optimizer", type=click.Choice(OPTIMIZERS), default="adamw", show_default=True)
@click.option(
    "--accumulate",
    type=click.IntRange(1, SCENES // MICRO_BATCH),
    default=4,
    show_default=True,
    help="Micro-batches a window.",
)
@click.option(
    "--fault",
    "name",
    default=None,
    metavar="NAME",
    help="Another fault than the review's own; `covlab faults` lists them.",
)
@click.option(
    "--mystery", type=int, default=None, metavar="SEED", help="A fault that is not named, for the class to find."
)
@click.option("--reveal", is_flag=True, help="With --mystery: name it.")
@click.option("--seed", type=int, default=0, show_default=True, help="Of scenes and first parameters.")
def scaling_bug(
    optimizer: str, accumulate: int, name: str | None, mystery: int | None, reveal: bool, seed: int
) -> None:
    """Train clean and bugged from the same seed, side by side, and say what tells them apart."""
    if mystery is not None and name is not None:
        raise click.UsageError("give --fault or --mystery, not both")
    if reveal and mystery is None:
        raise click.UsageError("--reveal goes with --mystery SEED")
    name = name or "division_in_debug_block"
    if name not in FAULTS:
        raise click.BadParameter(f"there is no fault {name!r}; `covlab faults` lists them", param_hint="--fault")
    if mystery is not None:
        name = random.Random(mystery).choice(sorted(set(FAULTS) - set(HIDDEN)))
    fault, secret = FAULTS[name], mystery is not None and not reveal
    console = Console(width=None if sys.stdout.isatty() else 120)
    if not secret:
        console.print(f"{fault.title}", style="bold")
        console.print(Syntax(fault.diff(), "diff", background_color="default", word_wrap=True))

    size = {
        "scenes": SCENES,
        "micro_batch": MICRO_BATCH,
        "windows": EPOCHS * math.ceil(SCENES / MICRO_BATCH / accumulate),
    }
    recipe = {
        "optimizer": optimizer,
        "learning_rate": LEARNING_RATES[optimizer],
        "accumulation": accumulate,
        "warmup": 20,
        "weight_decay": 0.0,
    }
    console.print(
        f"{optimizer}, {accumulate} micro-batches a window, {EPOCHS} epochs"
        + "".join(f", {key}={value}" for key, value in fault.setting.items())
    )
    clean, bugged = (exhibit(name, seed, without, **(fault.setting | recipe | size)) for without in (True, False))
    label = f"mystery {mystery} (BUG)" if secret else f"{name} (BUG)"
    _train(console, {"clean": clean, label: bugged})

    console.print(_ledgers({"clean": clean, label: bugged}))
    if secret:
        console.print(
            "Which fault is it? `covlab faults` lists the suspects; add --reveal to be told.", highlight=False
        )
    else:
        _verdict(console, clean, bugged, fault)


@demo.command("dashboard")
@click.option(
    "--fault",
    "name",
    default="division_in_debug_block",
    show_default=True,
    metavar="NAME",
    help="`covlab faults` lists them.",
)
@click.option("--seed", type=int, default=0, show_default=True, help="Of scenes and first parameters.")
@click.option("--no-browser", is_flag=True, help="Only print the address.")
def dashboard(name: str, seed: int, no_browser: bool) -> None:
    """The same in a browser, in large type, with controls: bug on beside bug off."""
    if name not in FAULTS:
        raise click.BadParameter(f"there is no fault {name!r}; `covlab faults` lists them", param_hint="--fault")
    from covlab.widgets.dashboard import serve

    serve(name, seed, browser=not no_browser)


def _train(console: Console, runs: dict[str, Trainer]) -> None:
    """Train all runs in turn, so that both curves grow together; show curves in a terminal, lines in a log."""
    live = Live(console=console, refresh_per_second=8) if console.is_terminal and not console.is_dumb_terminal else None
    shown = 0
    with live or nullcontext():
        for _ in in_turn(*runs.values()):
            epochs = max(len(run.history) for run in runs.values())
            if epochs == shown or any(len(run.history) < epochs and not run.stopped for run in runs.values()):
                continue
            shown = epochs
            if live:
                live.update(_curves(runs))
            elif epochs % 5 == 1 or epochs == EPOCHS:
                values = "    ".join(
                    f"{label}: train {run.history[-1]['train']:.6f} val {run.history[-1]['validation']:.6f}"
                    for label, run in runs.items()
                )
                console.print(f"epoch {epochs:02d}/{EPOCHS}  {values}", soft_wrap=True, highlight=False)
    for label, run in runs.items():
        if run.stopped:
            console.print(f"{label} was stopped: {run.stopped}")


def _curves(runs: dict[str, Trainer]) -> Columns:
    panels = []
    for value, title in (("train", "train, as logged"), ("validation", "validation")):
        series = {label: [row[value] for row in run.history] for label, run in runs.items()}
        legend = "   ".join(
            f"{mark} {label} {values[-1]:.6f}" for mark, (label, values) in zip(MARKS, series.items(), strict=True)
        )
        panels.append(Panel(f"{text_chart(list(series.values()))}\n{legend}", title=title, expand=False))
    return Columns(panels)


def text_chart(series: Sequence[Sequence[float]], width: int = 2 * EPOCHS, height: int = 10) -> str:
    """Curves in characters on a logarithmic axis; where they meet, an asterisk. Values that have no logarithm sit at
    the edge.
    """
    shown = [value for values in series for value in values if 0 < value < math.inf]
    if not shown:
        return "\n" * (height - 1)
    low, high = math.log10(min(shown)) - 0.02, math.log10(max(shown)) + 0.02
    grid = [[" "] * width for _ in range(height)]
    for mark, values in zip(MARKS, series, strict=True):
        for epoch, value in enumerate(values):
            share = (math.log10(value) - low) / (high - low) if 0 < value < math.inf else 0.0 if value == 0 else 1.0
            row, column = height - 1 - round(share * (height - 1)), epoch * width // EPOCHS
            grid[row][column] = mark if grid[row][column] in (" ", mark) else "*"
    edges = {0: f"{10**high:7.3f}", height - 1: f"{10**low:7.3f}"}
    return "\n".join(f"{edges.get(number, ''):>7} │{''.join(row)}" for number, row in enumerate(grid))


def _ledgers(runs: dict[str, Trainer]) -> Table:
    """What the ledgers of the runs say, beside each other."""
    table = Table("in the ledger", *runs, title=None)
    numbers = {
        "windows": lambda run: len(run.ledger.rows),
        "median gradient norm": lambda run: _median(run, "gradient_norm"),
        "windows clipped": lambda run: _share(
            run, lambda row: run.recipe.clip is not None and row["gradient_norm"] > run.recipe.clip
        ),
        "steps skipped": lambda run: _share(run, lambda row: not row["ran"]),
        "median update norm": lambda run: _median(run, "update_norm"),
        "first update norm": lambda run: run.ledger.rows[0]["update_norm"] if run.ledger.rows else math.nan,
        "schedule's count, over steps": lambda run: (run.counters["schedule_count"] / run.counters["executed"]).item(),
        "loss scale, last": lambda run: run.ledger.rows[-1]["loss_scale"] if run.ledger.rows else math.nan,
        "loss terms": lambda run: sum(key.startswith("term_") for key in run.ledger.rows[0]) if run.ledger.rows else 0,
    }
    for title, number in numbers.items():
        table.add_row(title, *(f"{number(run):.4g}" for run in runs.values()))
    return table


def _verdict(console: Console, clean: Trainer, bugged: Trainer, fault: Fault) -> None:
    table = Table("convicted by", "with the fault", "without", "an honest loop gives")
    values, honest = examine(bugged), examine(clean)
    for name in detecting(values):
        low, high = OBSERVABLES[name].clean
        table.add_row(
            OBSERVABLES[name].question,
            f"{values[name]:.4g}",
            f"{honest[name]:.4g}",
            f"{low:g}" if low == high else f"{low:g} to {high:g}",
        )
    if table.row_count:
        console.print(table)
    else:
        console.print("No observable tells the two runs apart: with these settings the fault does nothing.")
    symptom, ratio = Symptom(bugged), bugged.history[-1]["validation"] / clean.history[-1]["validation"]
    console.print(f"Verdict: {'prints' if symptom.train_is_zero else 'does not print'} train 0.000000; ", end="")
    held = "holds validation still" if symptom.validations == 1 else f"validation takes {symptom.validations} values"
    console.print(f"{held} in {len(bugged.history)} epochs; ", end="")
    console.print(f"ends at {ratio:.2f} times the clean run's NMSE.", style="bold")
    console.print(f"Innocent: {fault.unaffected}.")


def _median(run: Trainer, column: str) -> float:
    return median(row[column] for row in run.ledger.rows) if run.ledger.rows else math.nan


def _share(run: Trainer, holds: Callable[[dict[str, float]], bool]) -> float:
    return sum(map(holds, run.ledger.rows)) / max(len(run.ledger.rows), 1)
