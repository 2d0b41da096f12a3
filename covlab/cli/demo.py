"""`covlab demo`: for a classroom screen. Show the code difference, two live runs from one seed, and the result."""

import math
import random
import re
from collections.abc import Sequence
from contextlib import nullcontext
from statistics import median

import click
from rich.console import Console, Group
from rich.live import Live
from rich.panel import Panel
from rich.syntax import Syntax
from rich.table import Column, Table
from rich.text import Text

from covlab.arguments import SEED, whole_number
from covlab.cli.faults import evidence, wide_console
from covlab.cli.options import Number, no_browser_option, seed_option
from covlab.faults import FAULTS
from covlab.faults.case import Symptom
from covlab.faults.small_run import LEARNING_RATES, exhibit, in_turn
from covlab.faults.switch import Fault
from covlab.training.recipe import OPTIMIZERS
from covlab.training.trainer import Trainer

EPOCHS = 30
SCENES, MICRO_BATCH = 480, 32
MARKS = ("o", "x")
AXIS = 9
"""Characters to the left of a chart: its labels and the axis."""
KNOWN, REVIEWED = click.Choice(tuple(FAULTS)), "division_in_debug_block"

HIDDEN = (
    "guard_by_assert",
    "oracle_writes_unread_field",
    "sanitize_without_scaler",
    "nan_loss_sanitized",
    "checkpoint_without_average",
)
"""Faults that leave no trace in the curves or the ledger of a healthy run: unsuitable as a mystery."""


@click.group()
def demo() -> None:
    """Demonstrations for a class."""


@demo.command("scaling-bug")
@click.option("--optimizer", type=click.Choice(OPTIMIZERS), default="adamw")
@click.option(
    "--accumulate",
    type=Number(int, whole_number(1, SCENES // MICRO_BATCH)),
    default=4,
    help="Micro-batches per window.",
)
@click.option("--fault", "name", type=KNOWN, metavar="NAME", help="Show this fault instead; `covlab faults` lists all.")
@click.option(
    "--mystery", type=Number(int, SEED), metavar="SEED", help="A fault that is not named, for the class to find."
)
@click.option("--reveal", is_flag=True, help="With --mystery: name the fault.")
@seed_option
def scaling_bug(
    optimizer: str, accumulate: int, name: str | None, mystery: int | None, reveal: bool, seed: int
) -> None:
    """Train a correct and a buggy run from the same seed, side by side, and show how they differ."""
    if mystery is not None and name is not None:
        raise click.UsageError("give --fault or --mystery, not both")
    if reveal and mystery is None:
        raise click.UsageError("--reveal goes with --mystery SEED")
    if mystery is not None:
        name = random.Random(mystery).choice(sorted(set(FAULTS) - set(HIDDEN)))
    fault, secret = FAULTS[name or REVIEWED], mystery is not None and not reveal
    console = wide_console(120)
    if not secret:
        console.print(fault.title, style="bold")
        console.print(Syntax(fault.diff(), "diff", background_color="default", word_wrap=True))

    setting = fault.setting | {
        "optimizer": optimizer,
        "learning_rate": LEARNING_RATES[optimizer],
        "accumulation": accumulate,
        "warmup": 20,
        "weight_decay": 0.0,
        "scenes": SCENES,
        "micro_batch": MICRO_BATCH,
        "windows": EPOCHS * math.ceil(SCENES / MICRO_BATCH / accumulate),
    }
    console.print(
        f"{optimizer}, {accumulate} micro-batches per window, {EPOCHS} epochs"
        + "".join(f", {key}={value}" for key, value in fault.setting.items())
    )
    clean, buggy = (exhibit(fault.name, seed, without, **setting) for without in (True, False))
    runs = {"correct": clean, f"mystery {mystery} (BUG)" if secret else f"{fault.name} (BUG)": buggy}
    _train(console, runs)
    console.print(_ledgers(runs))
    if secret:
        console.print("Which fault is it? `covlab faults` lists the candidates; --reveal names it.", highlight=False)
    else:
        _verdict(console, clean, buggy, fault)


@demo.command("dashboard")
@click.option("--fault", "name", type=KNOWN, default=REVIEWED, metavar="NAME", help="`covlab faults` lists them.")
@seed_option
@no_browser_option
def dashboard(name: str, seed: int, no_browser: bool) -> None:
    """Show the scaling bug in a browser, in large type, with controls: bug on beside bug off."""
    from covlab.widgets.dashboard import serve

    serve(name, seed, browser=not no_browser)


def _train(console: Console, runs: dict[str, Trainer]) -> None:
    """Train the runs in turn, window by window; show curves in a terminal, lines in a log."""
    animated, shown = console.is_terminal and not console.is_dumb_terminal, 0
    with Live(console=console, refresh_per_second=8) if animated else nullcontext() as live:
        for _ in in_turn(*runs.values()):
            epochs = max(len(run.history) for run in runs.values())
            if epochs == shown or any(len(run.history) < epochs and not run.stopped for run in runs.values()):
                continue
            shown = epochs
            if live:
                live.update(_curves(runs, console.width))
            elif epochs % 5 == 1 or epochs == EPOCHS:
                values = "    ".join(
                    f"{label}: train {run.history[-1]['train']:.6f} val {run.history[-1]['validation']:.6f}"
                    for label, run in runs.items()
                )
                console.print(f"epoch {epochs:02d}/{EPOCHS}  {values}", soft_wrap=True, highlight=False)
    for label, run in runs.items():
        if run.stopped:
            console.print(f"{label} was stopped: {run.stopped}")


def _curves(runs: dict[str, Trainer], columns: int) -> Table | Group:
    """Draw the curves in the whole width of the terminal: side by side, or below each other in a narrow one."""
    beside = columns >= 100
    width = (columns // 2 if beside else columns) - 1
    panels = []
    for value, title in (("train", "train, as logged"), ("validation", "validation")):
        series = {label: [row[value] for row in run.history] for label, run in runs.items()}
        legend = "\n".join(
            f"{mark} {label} {values[-1]:.6f}" for mark, (label, values) in zip(MARKS, series.items(), strict=True)
        )
        chart = text_chart(list(series.values()), width=max(width - 4 - AXIS, 1))
        colored = Text(f"{chart}\n{legend}", overflow="fold")
        for mark, color in zip((*MARKS, "*"), ("blue", "yellow", "magenta"), strict=True):
            colored.highlight_regex(rf"(?<![a-z]){re.escape(mark)}(?![a-z])", color)
        panels.append(Panel(colored, title=title, width=width))
    if not beside:
        return Group(*panels)
    grid = Table.grid()
    grid.add_row(*panels)
    return grid


def text_chart(series: Sequence[Sequence[float]], width: int = 2 * EPOCHS, height: int = 10) -> str:
    """Draw curves in characters on a logarithmic axis, with an asterisk where they meet.

    A value of 0 is drawn at the bottom; NaN, infinity and values below 0 are drawn at the top.
    """
    shown = [value for values in series for value in values if 0 < value < math.inf]
    if not shown:
        return "\n" * (height - 1)
    low, high = math.log10(min(shown)) - 0.02, math.log10(max(shown)) + 0.02
    grid = [[" "] * width for _ in range(height)]
    for mark, values in zip(MARKS, series, strict=True):
        for epoch, value in enumerate(values):
            share = 0.0 if value == 0 else 1.0
            if 0 < value < math.inf:
                share = (math.log10(value) - low) / (high - low)
            row, column = height - 1 - round(share * (height - 1)), epoch * width // EPOCHS
            grid[row][column] = mark if grid[row][column] in (" ", mark) else "*"
    edges = {0: f"{10**high:7.3f}", height - 1: f"{10**low:7.3f}"}
    return "\n".join(f"{edges.get(number, ''):>7} │{''.join(row)}" for number, row in enumerate(grid))


SHARES = ("windows clipped", "steps skipped")
"""Rows of ``_ledger`` that are shares, shown in percent."""


def _ledgers(runs: dict[str, Trainer]) -> Table:
    """Return a table of what differs between the ledgers of the runs."""
    table = Table("in the ledger", *(Column(label, overflow="fold") for label in runs), expand=True)
    columns = [_ledger(run) for run in runs.values()]
    for title in columns[0]:
        texts = [f"{column[title]:.0%}" if title in SHARES else f"{column[title]:.4g}" for column in columns]
        if len(set(texts)) > 1:
            table.add_row(title, *texts)
    if not table.row_count:
        table.add_row("no difference", *["the same"] * len(runs))
    return table


def _ledger(run: Trainer) -> dict[str, float]:
    rows, clip = run.ledger.rows, run.recipe.clip or math.inf
    norms, updates, scales = (
        [row[name] for row in rows] or [math.nan] for name in ("gradient_norm", "update_norm", "loss_scale")
    )
    return {
        "windows": len(rows),
        "median gradient norm": median(norms),
        "windows clipped": sum(norm > clip for norm in norms) / len(norms),
        "steps skipped": sum(not row["ran"] for row in rows) / len(norms),
        "median update norm": median(updates),
        "first update norm": updates[0],
        "schedule count per step": (run.counters["schedule_count"] / run.counters["executed"]).item(),
        "loss scale, last": scales[-1],
        "loss terms": len([name for row in rows[:1] for name in row if name.startswith("term_")]),
    }


def _verdict(console: Console, clean: Trainer, buggy: Trainer, fault: Fault) -> None:
    table, _ = evidence(buggy, clean)
    console.print(
        table
        if table.row_count
        else "No observable tells the two runs apart: with these settings the fault does nothing."
    )
    symptom, ratio = Symptom(buggy), buggy.history[-1]["validation"] / clean.history[-1]["validation"]
    prints = "prints" if symptom.train_is_zero else "does not print"
    keeps = (
        "keeps validation constant" if symptom.validations == 1 else f"validation takes {symptom.validations} values"
    )
    console.print(f"Result: {prints} train 0.000000; {keeps} in {len(buggy.history)} epochs; ", end="")
    console.print(f"ends at {ratio:.2f} times the correct run's NMSE.", style="bold")
    console.print(f"Unaffected: {fault.unaffected}.")
