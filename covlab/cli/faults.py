"""`covlab faults`: the catalogue, an exhibit, and what the museum measures."""

import sys
import textwrap
import time
from collections.abc import Iterable
from pathlib import Path

import click
from rich.console import Console
from rich.markup import escape
from rich.table import Table

from covlab.faults import FAULTS, GROUPS, case
from covlab.faults import matrix as matrices
from covlab.faults.evidence import OBSERVABLES, detecting, examine
from covlab.faults.review import review as review_items
from covlab.faults.small_run import exhibit, finish

TITLES = {
    "accumulation": "The window: sums, divisors, steps and counts",
    "precision": "Mixed precision: the loss scale, and numbers that are not finite",
    "loss": "The loss and its weights",
    "data": "Scenes and evaluation",
}


@click.group(invoke_without_command=True)
@click.pass_context
def faults(context: click.Context) -> None:
    """The museum: training bugs that raise no exception. Without a command: the catalogue."""
    if context.invoked_subcommand is None:
        for group in GROUPS:
            click.echo(f"\n{TITLES[group]}")
            for fault in FAULTS.values():
                if fault.group == group:
                    click.echo(f"  {fault.name:<34} {fault.title}")
        click.echo(f"\n{len(FAULTS)} faults. `covlab faults show NAME` shows one.")


@faults.command()
@click.argument("name")
@click.option(
    "--measure",
    is_flag=True,
    help="Also train a small run with it, and one without, and hold all observables against both.",
)
@click.option("--seed", type=int, default=0, show_default=True)
def show(name: str, measure: bool, seed: int) -> None:
    """Show the fault NAME: right code against wrong, and how one would know."""
    if name not in FAULTS:
        raise click.ClickException(f"there is no fault {name!r}; `covlab faults` lists them")
    fault = FAULTS[name]
    click.echo(f"{fault.title}\n")
    for line in fault.diff().splitlines():
        click.secho(line, fg={"+": "green", "-": "red"}.get(line[0] if line else ""))
    clean = OBSERVABLES[fault.observable].clean
    facts = {
        "changes": fault.changes,
        "innocent": fault.unaffected,
        "convicted by": (
            f"{fault.observable}: {OBSERVABLES[fault.observable].question} (honest: {clean[0]:g} to {clean[1]:g})"
        ),
        "shows with": ", ".join(f"{key}={value}" for key, value in fault.setting.items()) or "any run",
        "seen in": fault.seen_in,
    }
    click.echo()
    for label, text in facts.items():
        click.echo(textwrap.fill(text, 110, initial_indent=f"{label:<13}", subsequent_indent=" " * 13))
    if measure:
        values, honest = examine(finish(exhibit(name, seed))), examine(finish(exhibit(name, seed, without=True)))
        click.echo(f"\n{'observable':<28}{'with the fault':>16}{'without':>12}   honest range")
        for found in detecting(values):
            low, high = OBSERVABLES[found].clean
            click.echo(f"{found:<28}{values[found]:>16.4g}{honest[found]:>12.4g}   {low:g} to {high:g}")
        click.echo(f"{len(values) - len(detecting(values))} other observables see nothing.")


@faults.command()
@click.option(
    "--out",
    type=click.Path(path_type=Path, file_okay=False),
    default=Path("build/faults"),
    show_default=True,
    help="Where tables and pictures go.",
)
@click.option(
    "--seeds",
    type=click.IntRange(1),
    default=len(matrices.SEEDS),
    show_default=True,
    help="Runs for each fault and cell.",
)
@click.option(
    "--confusion-seeds",
    type=click.IntRange(1),
    default=5,
    show_default=True,
    help="Runs for each fault in its exhibit's setting.",
)
@click.option("--workers", type=click.IntRange(1), default=2, show_default=True, help="Processes, one thread each.")
def matrix(out: Path, seeds: int, confusion_seeds: int, workers: int) -> None:
    """Measure the symptom matrix and the confusion matrix (minutes): matrix.csv, confusion.csv and two pictures."""
    from covlab.plots.fault_matrices import confusion_matrix, symptom_matrix

    out.mkdir(parents=True, exist_ok=True)
    began = time.monotonic()
    rows = matrices.measure_matrix(seeds=range(seeds), workers=workers)
    matrices.write_matrix(rows, out / "matrix.csv")
    symptom_matrix(rows).savefig(out / "matrix.png", dpi=110)
    shares = matrices.measure_confusion(range(confusion_seeds), workers)
    matrices.write_matrix(
        [
            {"fault": name, **{column: found.get(column, 0.0) for column in OBSERVABLES}}
            for name, found in shares.items()
        ],
        out / "confusion.csv",
    )
    confusion_matrix(shares, {fault.name: fault.observable for fault in FAULTS.values()}).savefig(
        out / "confusion.png", dpi=110
    )
    click.echo(
        f"{len(rows)} rows of {seeds} seeds in {time.monotonic() - began:.0f} s; tables and pictures are in {out}"
    )
    acquitted = [
        name for name, found in shares.items() if name != "clean" and found.get(FAULTS[name].observable, 0) < 1
    ]
    click.echo(f"Not convicted with every seed in its exhibit's setting: {', '.join(acquitted) or 'none'}")
    click.echo(f"Observables that convict an honest run: {', '.join(shares['clean']) or 'none'}")


@faults.command("twins")
def indistinguishable() -> None:
    """What no observable can tell apart, in the published matrix, and why."""
    for found in matrices.indistinguishable(matrices.load_matrix()):
        click.echo(
            f"{', '.join(found.cell)}: {', '.join(found.names)}, "
            + (f"convicted alike by {', '.join(found.observables)}" if found.observables else "not convicted")
        )
        for reason in found.reasons:
            click.echo(textwrap.fill(reason, 110, initial_indent="    ", subsequent_indent="        "))


@faults.command("case")
@click.option("--seed", type=int, default=0, show_default=True)
def case_(seed: int) -> None:
    """The case: which combinations of faults print `train 0.000000` and a constant validation, and which cannot."""
    _print(case.combinations(seed), ("run", "faults", "measured over 30 epochs", "verdict"))


@faults.command()
@click.option("--seed", type=int, default=0, show_default=True)
def reports(seed: int) -> None:
    """What each of the case's ten reports blamed, run, with a verdict."""
    _print(case.reports(seed), ("2025", "blamed", "measured", "verdict"))


@faults.command()
@click.option("--seed", type=int, default=0, show_default=True)
def review(seed: int) -> None:
    """What the case's review called correct, looked at again."""
    _print(review_items(seed), ("item", "held to be so", "measured", "verdict"))


def _print(findings: Iterable[case.TestedClaim], header: tuple[str, ...]) -> None:
    """A table as wide as the terminal, or 140 columns where there is none; every cell in full."""
    console = Console(width=None if sys.stdout.isatty() else 140)
    table = Table(*header, show_lines=True)
    for finding in findings:
        table.add_row(*map(escape, (finding.subject, finding.claim, finding.measured, finding.verdict)))
    console.print(table)
