"""`covlab faults`: list the faults, show one, and repeat what the museum measured."""

import sys
import textwrap
import time
from collections.abc import Iterable
from contextlib import nullcontext
from pathlib import Path

import click
from rich.console import Console
from rich.markup import escape
from rich.table import Column, Table

from covlab.arguments import whole_number
from covlab.cli.options import Number, OutputFolder, seed_option, shown
from covlab.faults import FAULTS, GROUPS, case
from covlab.faults import matrix as matrices
from covlab.faults.evidence import OBSERVABLES, detecting, examine
from covlab.faults.review import review as review_items
from covlab.faults.small_run import exhibit, finish
from covlab.training.trainer import Trainer

TITLES = {
    "accumulation": "The window: sums, divisors, steps and counts",
    "precision": "Mixed precision: the loss scale, and numbers that are not finite",
    "loss": "The loss and its weights",
    "data": "Scenes and evaluation",
}


@click.group(invoke_without_command=True)
@click.pass_context
def faults(context: click.Context) -> None:
    """The museum: training bugs that raise no exception. Without a command, list them."""
    if context.invoked_subcommand is None:
        for group in GROUPS:
            click.echo(f"\n{TITLES[group]}")
            for fault in FAULTS.values():
                if fault.group == group:
                    click.echo(f"  {fault.name:<34} {fault.title}")
        click.echo(f"\n{len(FAULTS)} faults. `covlab faults show NAME` shows one.")


@faults.command()
@click.argument("name")
@click.option("--measure", is_flag=True, help="Also train a small run with it and one without, and compare them.")
@seed_option
def show(name: str, measure: bool, seed: int) -> None:
    """Show the fault NAME: correct and buggy code, and how to detect it."""
    if name not in FAULTS:
        raise click.BadParameter(f"there is no fault {shown(name)}; `covlab faults` lists them", param_hint="'NAME'")
    fault = FAULTS[name]
    click.echo(f"{fault.title}\n")
    for line in fault.diff().splitlines():
        click.secho(line, fg={"+": "green", "-": "red"}.get(line[:1]))
    facts = {
        "changes": fault.changes,
        "unaffected": fault.unaffected,
        "detected by": (
            f"{fault.observable}: {OBSERVABLES[fault.observable].question} (correct: {_clean(fault.observable)})"
        ),
        "shows with": ", ".join(f"{key}={value}" for key, value in fault.setting.items()) or "any run",
        "seen in": fault.seen_in,
    }
    click.echo()
    for label, text in facts.items():
        click.echo(textwrap.fill(text, 110, initial_indent=f"{label:<13}", subsequent_indent=" " * 13))
    if measure:
        table, others = evidence(finish(exhibit(name, seed)), finish(exhibit(name, seed, without=True)))
        wide_console(140).print(table)
        click.echo(f"{others} other observables do not detect it.")


def evidence(buggy: Trainer, clean: Trainer) -> tuple[Table, int]:
    """Return a table of the observables that detect the fault, and the number of those that do not."""
    table = Table(
        Column("detected by", overflow="fold", ratio=1), "buggy", "this correct run", "every correct run", expand=True
    )
    values, expected = examine(buggy), examine(clean)
    for name in detecting(values):
        question = f"{name}\n{OBSERVABLES[name].question}"
        table.add_row(question, f"{values[name]:.4g}", f"{expected[name]:.4g}", _clean(name))
    return table, len(values) - table.row_count


def _clean(name: str) -> str:
    low, high = OBSERVABLES[name].clean
    return f"{low:g}" if low == high else f"{low:g} to {high:g}"


@faults.command()
@click.option("--out", type=OutputFolder(), default=Path("build/faults"), help="Output folder.")
@click.option(
    "--seeds", type=Number(int, whole_number(1, 1000)), default=len(matrices.SEEDS), help="Runs per fault and setting."
)
@click.option(
    "--confusion-seeds",
    type=Number(int, whole_number(1, 1000)),
    default=5,
    help="Runs per fault for the confusion matrix.",
)
@click.option("--workers", type=Number(int, whole_number(1, 1024)), default=2, help="Processes, one thread each.")
def matrix(out: Path, seeds: int, confusion_seeds: int, workers: int) -> None:
    """Measure the symptom matrix and the confusion matrix (takes minutes); write each as CSV and as a picture."""
    from covlab.plots.fault_matrices import confusion_matrix, symptom_matrix

    out.mkdir(parents=True, exist_ok=True)
    began = time.monotonic()
    rows = matrices.measure_matrix(seeds=range(seeds), workers=workers)
    matrices.write_matrix(rows, out / "matrix.csv")
    symptom_matrix(rows).savefig(out / "matrix.png", dpi=110)
    shares = matrices.measure_confusion(range(confusion_seeds), workers)
    confusion = [
        {"fault": name, **{column: found.get(column, 0.0) for column in OBSERVABLES}} for name, found in shares.items()
    ]
    matrices.write_matrix(confusion, out / "confusion.csv")
    expected = {fault.name: fault.observable for fault in FAULTS.values()}
    confusion_matrix(shares, expected).savefig(out / "confusion.png", dpi=110)
    click.echo(f"{len(rows)} rows of {seeds} seeds in {time.monotonic() - began:.0f} s; all files are in {out}")
    missed = [name for name, observable in expected.items() if shares[name].get(observable, 0) < 1]
    click.echo(f"Not detected with every seed in its exhibit's setting: {', '.join(missed) or 'none'}")
    click.echo(f"Observables that raise a false alarm on a correct run: {', '.join(shares['clean']) or 'none'}")


@faults.command("twins")
def indistinguishable() -> None:
    """Show which faults no observable can tell apart in the published matrix, and why."""
    for found in matrices.indistinguishable(matrices.load_matrix()):
        by = f"all detected by {', '.join(found.observables)}" if found.observables else "not detected"
        click.echo(f"{', '.join(found.cell)}: {', '.join(found.names)}, {by}")
        for reason in found.reasons:
            click.echo(textwrap.fill(reason, 110, initial_indent="    ", subsequent_indent="        "))


@faults.command("case")
@seed_option
def case_(seed: int) -> None:
    """Show which combinations of faults reproduce the case, `train 0.000000` and a constant validation."""
    _print(case.combinations(seed), ("run", "faults", "measured over 30 epochs", "verdict"))


@faults.command()
@seed_option
def reports(seed: int) -> None:
    """Test the cause that each of the case's ten reports blamed."""
    _print(case.reports(seed), ("2025", "blamed", "measured", "verdict"))


@faults.command()
@seed_option
def review(seed: int) -> None:
    """Check what the case's review called correct."""
    _print(review_items(seed), ("item", "claim", "measured", "verdict"))


def _print(findings: Iterable[case.TestedClaim], header: tuple[str, ...]) -> None:
    """Print each finding as soon as it is measured; meanwhile, show on stderr that the next one is being measured."""
    console, progress = wide_console(140), Console(stderr=True)
    shares = (2, 4, 6, 3)  # of the line, for each column
    widths = [max(9, (console.width - 6) * share // sum(shares)) for share in shares]

    def row(texts: Iterable[str], first: bool) -> Table:
        table = Table(box=None, show_header=first, pad_edge=False)
        for title, width in zip(header, widths, strict=True):
            table.add_column(title, width=width, overflow="fold")
        table.add_row(*map(escape, texts))
        return table

    began, number = time.monotonic(), 0
    measured = iter(findings)
    while True:
        with progress.status(f"measuring number {number + 1} …") if progress.is_terminal else nullcontext():
            finding = next(measured, None)
        if finding is None:
            break
        number += 1
        if not progress.is_terminal:
            click.echo(f"measured {number} after {time.monotonic() - began:.0f} s: {finding.claim}", err=True)
        if number > 1:
            console.rule(style="dim")
        texts = (finding.subject, finding.claim, finding.measured, finding.verdict)
        console.print(row(texts, first=number == 1))


def wide_console(columns: int) -> Console:
    """Return a console as wide as the terminal, or ``columns`` wide if there is no terminal."""
    return Console(width=None if sys.stdout.isatty() else columns)
