"""`covlab course …`: run the lessons, make their notebooks, open a student's own copies."""

import ast
import json
import os
import signal
import sys
import time
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import TYPE_CHECKING, Any, ParamSpec, TypeVar

import click
from rich.console import Console

import covlab.course
from covlab.course import editions, workspace
from covlab.course.claims import Claim, read_claims
from covlab.course.environment import provenance

if TYPE_CHECKING:
    from covlab.course.runner import Run

P = ParamSpec("P")
T = TypeVar("T")

root_option = click.option(
    "--root",
    type=click.Path(path_type=Path, file_okay=False, exists=True),
    default=".",
    help="A clone of covlab: where lessons/ and notebooks/ are.  [default: here]",
)


@click.group()
def course() -> None:
    """Run, check and open the lessons."""


only_option = click.option("--only", multiple=True, metavar="NN …", help="Only lessons whose names begin so.")
more_argument = click.argument("more", nargs=-1, metavar="[NN]...")  # so that `--only 04 06` means both
jobs_option = click.option("--jobs", type=click.IntRange(1), default=1, show_default=True, help="Lessons at a time.")
budget_option = click.option(
    "--budget",
    type=click.FloatRange(0, min_open=True),
    metavar="SECONDS",
    help="Time budget of every lesson, in place of its own; one that takes three times as long is stopped.",
)


@course.command()
@root_option
@only_option
@more_argument
@jobs_option
@budget_option
@click.option(
    "--parameter",
    "-p",
    "parameters",
    nargs=2,
    multiple=True,
    metavar="NAME VALUE",
    help="Override a parameter of every lesson that runs.",
)
@click.option(
    "--edition",
    type=click.Choice(["instructor", "student"]),
    default="instructor",
    show_default=True,
    help="With solutions every exercise must pass; as students get it, none may.",
)
def run(
    root: Path,
    only: tuple[str, ...],
    more: tuple[str, ...],
    jobs: int,
    budget: float | None,
    parameters: tuple[tuple[str, str], ...],
    edition: str,
) -> None:
    """Run lessons and check all they claim; the report goes to build/course/."""
    from covlab.course.runner import Run

    lessons, claims = _read(root, only + more)
    for lesson in lessons:
        editions.write_notebook(lesson.instructor, root / "build" / "instructor" / f"{lesson.name}.ipynb")
    folder = root / "build" / ("course" if edition == "instructor" else "student")
    overrides = {name: _literal(value) for name, value in parameters}
    runs = [_or_refuse(Run, lesson, folder, overrides, budget, edition) for lesson in lessons]
    results = _execute(runs, claims, folder, jobs)
    passed = sum(each.status == "passed" for each in runs)
    click.echo(f"{passed} of {len(runs)} lessons passed in {results['seconds']:.0f} s: {folder / 'index.html'}")
    _leave(runs)


@course.command()
@root_option
@only_option
@more_argument
@jobs_option
@budget_option
@click.option("--seeds", type=click.IntRange(1), default=5, show_default=True, help="How many: 0, 1, 2, …")
@click.option(
    "--update",
    is_flag=True,
    help="Also propose values and tolerances, in build/check/claims.toml; lessons/claims.toml stays as it is.",
)
def check(
    root: Path,
    only: tuple[str, ...],
    more: tuple[str, ...],
    jobs: int,
    budget: float | None,
    seeds: int,
    update: bool,
) -> None:
    """Run lessons with several seeds and show how far each claim's measurements spread."""
    from covlab.course.claims import as_toml, proposal
    from covlab.course.runner import Run

    lessons, claims = _read(root, only + more)
    folder = root / "build" / "check"
    runs = [
        Run(lesson, folder / f"seed{seed}", {"seed": seed}, budget)
        for lesson in lessons
        if "seed" in lesson.parameters
        for seed in range(seeds)
    ]
    if not runs:
        raise click.ClickException("none of these lessons has a parameter 'seed'")
    results = _execute(runs, claims, folder, jobs)
    for row in results["claims"]:
        low, high = min(row["measured"]), max(row["measured"])
        verdict = "holds" if row["holds"] else "DOES NOT HOLD"
        click.echo(
            f"{row['claim']}: {row['value']:g} ± {row['tolerance']:g}, measured {low:.4g} … {high:.4g} "
            f"over {len(row['measured'])} values: {verdict}"
        )
    if update:
        path = folder / "claims.toml"
        path.write_text(
            "\n".join(as_toml(proposal(claims[row["claim"]], row["measured"])) for row in results["claims"]),
            encoding="utf-8",
        )
        click.echo(f"proposed: {path}; compare it with lessons/claims.toml and take over what you believe")
    _leave(runs)


@course.command()
@root_option
def report(root: Path) -> None:
    """Say again what the last run of the course found."""
    path = root / "build" / "course" / "results.json"
    if not path.exists():
        raise click.ClickException(f"{path} is not there: run `covlab course run` first")
    results = json.loads(path.read_text(encoding="utf-8"))
    for lesson in results["lessons"]:
        click.echo(f"{lesson['lesson']:<36} {lesson['status']:<12} {lesson['seconds']:6.1f} s")
        for problem in lesson["findings"]:
            click.echo(f"  {problem['place']}: {problem['kind']}: {problem['message']}")
    click.echo(f"{results['finished']}: {path.with_name('index.html')}")
    sys.exit(0 if results["passed"] else 1)


@course.command("site")
@root_option
@click.option("--handout", is_flag=True, help="Also pack it into one archive, for a class without a network.")
def website(root: Path, handout: bool) -> None:
    """Make a static site, build/site/, of the lessons as they last ran."""
    from covlab.course.website import WebsiteError, build_website, make_handout

    lessons = _or_refuse(editions.read_lessons, root)
    try:
        first = build_website(root, lessons)
    except WebsiteError as error:
        raise click.ClickException(str(error)) from error
    click.echo(first)
    if handout:
        click.echo(make_handout(first.parent))


@course.command()
@root_option
@click.option("--check", is_flag=True, help="Change nothing; fail when a notebook differs from its lesson.")
def notebooks(root: Path, check: bool) -> None:
    """Make the student edition, notebooks/, from lessons/."""
    if check:
        stale = _or_refuse(editions.stale_student_editions, root)
        if stale:
            raise click.ClickException(f"differs from its lesson: {', '.join(stale)}; `make notebooks` mends it")
        return
    for name in _or_refuse(editions.write_student_editions, root):
        click.echo(f"notebooks/{name}")


@course.command()
@root_option
@click.option("--no-browser", is_flag=True, help="Only print the address.")
def lab(root: Path, no_browser: bool) -> None:
    """Open JupyterLab on your own copy of the lessons, in work/."""
    for copy in workspace.fill(root):
        click.echo(f"new: {copy}")
    command = [
        sys.executable,
        "-m",
        "jupyterlab",
        "--ip=127.0.0.1",
        f"--ServerApp.root_dir={(root / 'work').resolve()}",
    ]
    # Nothing is fetched: no news, no look for updates.
    command.append(f"--LabApp.app_settings_dir={Path(covlab.course.__file__).parent / 'lab_settings'}")
    if no_browser:
        command.append("--no-browser")
    if hasattr(os, "geteuid") and os.geteuid() == 0:
        command.append("--allow-root")  # in a container; Jupyter refuses root otherwise
    os.environ.setdefault("OMP_NUM_THREADS", "1")  # as the runner does: what a student sees is what was checked
    os.execv(sys.executable, command)  # JupyterLab takes this process's place, so Ctrl-C is its own


@course.command()
@root_option
@click.argument("lesson")
def reset(root: Path, lesson: str) -> None:
    """Put a fresh copy of LESSON (05, say) into work/, beside your own."""
    click.echo(f"new: {_or_refuse(workspace.reset, root, lesson)}")


@course.command()
@root_option
def progress(root: Path) -> None:
    """Show which exercises are solved in work/."""
    from covlab.course import student_record

    rows = student_record.progress_rows(root / "work" / student_record.NAME)
    for exercise, state, tries in rows:
        click.echo(f"{exercise:<32} {state}" + (f", {tries} tries" if tries > 1 else ""))
    click.echo(f"{student_record.summary(rows)} exercises solved")


@course.command()
@click.option("--update", is_flag=True, help="Run every set-up anew and replace the shipped data; minutes.")
@click.option(
    "--seeds", type=click.IntRange(5), default=16, show_default=True, help="With --update: how many, from 100 on."
)
def band(update: bool, seeds: int) -> None:
    """Say what the reference bands were made of, or make them anew."""
    from covlab.course import reference_band

    if update:
        made = {"command": f"covlab course band --update --seeds {seeds}", "environment": provenance()}
        entries = {}
        for name in reference_band.SETUPS:

            def told(seed: int, name: str = name) -> None:
                click.echo(f"{name} {seed}")

            entries[name] = reference_band.measure_references(name, range(100, 100 + seeds), told) | {"made": made}
        reference_band.DATA.write_text(json.dumps(entries) + "\n", encoding="utf-8")
    for name, entry in json.loads(reference_band.DATA.read_text(encoding="utf-8")).items():
        ends = sorted(curve[-1] for curve in entry["validation"])
        click.echo(
            f"{name}: {len(ends)} runs of {len(entry['train'][0])} epochs, validation {ends[0]:.4f} to {ends[-1]:.4f} "
            f"at the end; {entry['made']['command']}, torch {entry['made']['environment']['versions']['torch']}"
        )


def _read(root: Path, only: tuple[str, ...]) -> tuple[list[editions.Lesson], dict[str, Claim]]:
    lessons, claims = _or_refuse(editions.read_lessons, root, only), _or_refuse(read_claims, root)
    stray = [] if only else [claim for claim in claims if claim[:3] not in {f"{each.name[:2]}." for each in lessons}]
    if stray:
        raise click.ClickException(f"lessons/claims.toml has claims of no lesson: {', '.join(stray)}")
    return lessons, claims


def _execute(runs: "list[Run]", claims: dict[str, Claim], folder: Path, jobs: int) -> dict[str, Any]:
    """Run them under a live display, write the report, print what is wrong; returns the results."""
    from covlab.course.course_report import write_report
    from covlab.course.live_table import live_table
    from covlab.course.runner import run_all

    last = folder / "results.json"
    before = json.loads(last.read_text(encoding="utf-8"))["lessons"] if last.exists() else []
    expected = {each["lesson"]: each["seconds"] for each in before if each["status"] == "passed"}
    signal.signal(signal.SIGTERM, signal.default_int_handler)  # a cancelled job leaves a report, like Ctrl-C
    console, began = Console(), time.monotonic()
    # Loading torch for its version takes as long as starting a lesson; the lessons leave the time.
    with ThreadPoolExecutor(1) as aside, live_table(console, expected) as progress:
        environment = aside.submit(provenance)
        run_all(runs, claims, jobs=jobs, on_change=progress)
    results = write_report(runs, claims, folder, time.monotonic() - began, environment.result())
    told: set[tuple[str, str]] = set()
    for each in runs:
        for problem in each.problems:
            if (said := (each.location(problem), problem.message)) in told:
                continue  # several seeds read the same prose
            told.add(said)
            console.print(
                f"\n{each.location(problem)}: {problem.kind}: {problem.message}",
                markup=False,
                highlight=False,
                style="red" if problem.fatal else "yellow",
                soft_wrap=True,
            )
            if problem.lines:
                console.print("\n".join(problem.lines), markup=False, highlight=False, soft_wrap=True)
    return results


def _leave(runs: "list[Run]") -> None:
    if any(each.status == "interrupted" for each in runs):
        sys.exit(130)
    sys.exit(1 if any(each.failed for each in runs) else 0)


def _literal(text: str) -> object:
    try:
        return ast.literal_eval(text)
    except (ValueError, SyntaxError):
        return text  # -p profile gpu


def _or_refuse(function: Callable[P, T], *arguments: P.args, **named: P.kwargs) -> T:
    try:
        return function(*arguments, **named)
    except ValueError as error:
        raise click.ClickException(str(error)) from error
