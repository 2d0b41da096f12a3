"""`covlab course …`: run the lessons, make their notebooks, open a student's own copies."""

import ast
import json
import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from functools import partial, wraps
from itertools import groupby
from pathlib import Path
from typing import TYPE_CHECKING, Any
from urllib.parse import quote

import click
from rich.console import Console

import covlab.course
from covlab.arguments import number, whole_number
from covlab.cli.options import ExistingPath, Number, OutputFile, Text, no_browser_option, refusals, refuse_twice
from covlab.course import editions, workspace
from covlab.course.claims import Claim, ClaimError, read_claims
from covlab.course.editions import Lesson, LessonError, UnknownLesson
from covlab.course.environment import provenance
from covlab.durable_files import write_atomically

if TYPE_CHECKING:
    from covlab.course.runner import Run


root_option = click.option(
    "--root",
    type=ExistingPath(file_okay=False),
    default=".",
    show_default=False,
    help="A clone of covlab, or any folder for work/ and build/, with covlab's own lessons.  [default: here]",
)


@click.group()
def course() -> None:
    """Run, check and open the lessons."""


def choosing_lessons(command: Callable[..., None]) -> Callable[..., None]:
    """Add the options that choose lessons, and call ``command`` with the lessons and their claims."""

    @root_option
    @click.option(
        "--only", type=Text(), multiple=True, metavar="NN …", help="Run only the lessons whose names begin with NN."
    )
    @click.argument("more", type=Text(), nargs=-1, metavar="[NN]...")  # so that `--only 04 06` means both
    @click.option(
        "--jobs", type=Number(int, whole_number(1, 1024)), default=1, help="How many lessons run at the same time."
    )
    @click.option(
        "--budget",
        type=Number(float, number(above=0, most=604_800)),
        metavar="SECONDS",
        help="Time budget of every lesson, instead of its own. At three times the budget, a lesson is stopped.",
    )
    @wraps(command)
    def with_lessons(root: Path, only: tuple[str, ...], more: tuple[str, ...], **options: Any) -> None:
        with refusals(LessonError, ClaimError), refusals(UnknownLesson, usage=True, prefix="--only: "):
            lessons, claims = editions.read_lessons(root, only + more), read_claims(root)
        numbers = {lesson.name[:2] for lesson in lessons}
        if not (only or more) and (stray := [claim for claim in claims if claim.partition(".")[0] not in numbers]):
            raise click.ClickException(f"lessons/claims.toml has claims that belong to no lesson: {', '.join(stray)}")
        command(root, lessons, claims, **options)

    return with_lessons


@course.command()
@choosing_lessons
@click.option(
    "--parameter", "-p", "parameters", nargs=2, multiple=True, metavar="NAME VALUE", help="Set a lesson parameter."
)
@click.option(
    "--edition",
    type=click.Choice(["instructor", "student"]),
    default="instructor",
    help="instructor: with solutions, and every exercise must pass. student: without, and none may pass.",
)
def run(
    root: Path,
    lessons: list[Lesson],
    claims: dict[str, Claim],
    jobs: int,
    budget: float | None,
    parameters: tuple[tuple[str, str], ...],
    edition: str,
) -> None:
    """Run lessons and check all their claims; the report is in build/course/."""
    from covlab.course.results_folder import replacing
    from covlab.course.runner import Run

    folder = root / "build" / ("course" if edition == "instructor" else "student")
    refuse_twice("--parameter", (name for name, _ in parameters))
    overrides = {name: _literal(value) for name, value in parameters}
    with refusals(ValueError, usage=True, prefix="--parameter: "):
        runs = [Run(lesson, folder, overrides, budget, edition) for lesson in lessons]
    for lesson in lessons:
        editions.write_notebook(lesson.instructor, root / "build" / "instructor" / f"{lesson.name}.ipynb")
    with refusals(OSError), replacing(folder) as new:
        for each in runs:
            each.folder = new.resolve()
        results = _execute(runs, claims, folder, new, jobs)
    _show_problems(runs)
    passed = sum(each.status == "passed" for each in runs)
    click.echo(f"{passed} of {len(runs)} lessons passed in {results['seconds']:.0f} s: {folder / 'index.html'}")
    _leave(runs)


@course.command()
@choosing_lessons
@click.option(
    "--seeds", type=Number(int, whole_number(1, 1000)), default=5, help="Number of seeds; they are 0, 1, 2, …"
)
@click.option(
    "--update", is_flag=True, help="Also write proposed claims to build/check/claims.toml; lessons/claims.toml stays."
)
def check(
    root: Path,
    lessons: list[Lesson],
    claims: dict[str, Claim],
    jobs: int,
    budget: float | None,
    seeds: int,
    update: bool,
) -> None:
    """Run lessons with several seeds and show the spread of each claim's measurements.

    Below each claim, it shows how the prose prints the number, and a range to write if the seeds print different ones.
    """
    from covlab.course.claims import as_toml, prints_over_seeds, proposal
    from covlab.course.prose import Stated, statements
    from covlab.course.results_folder import replacing
    from covlab.course.runner import Run

    lessons = [lesson for lesson in lessons if "seed" in lesson.parameters]
    if not lessons:
        raise click.ClickException("none of these lessons has a parameter 'seed'")
    folder = root / "build" / "check"
    with refusals(OSError), replacing(folder) as new:
        runs = [Run(lesson, new / f"seed{seed}", {"seed": seed}, budget) for lesson in lessons for seed in range(seeds)]
        results = _execute(runs, claims, folder, new, jobs)
        proposed = [as_toml(proposal(claims[row["claim"]], row["measured"])) for row in results["claims"]]
        if update and proposed:
            (new / "claims.toml").write_text("\n".join(proposed), encoding="utf-8")
    _show_problems(runs)
    numbers: dict[str | None, dict[Stated, None]] = {}
    for cell in (cell for lesson in lessons for cell in lesson.notebook.cells if cell.cell_type == "markdown"):
        with suppress(ValueError):  # a number that cannot be read is among the problems above
            for each in statements(cell.source):
                numbers.setdefault(each.claim, {})[each] = None
    for row in results["claims"]:
        low, high = min(row["measured"]), max(row["measured"])
        verdict = "holds" if row["holds"] else "DOES NOT HOLD"
        click.echo(
            f"{row['claim']}: {row['value']:g} ± {row['tolerance']:g}, measured {low:.4g} … {high:.4g} "
            f"over {len(row['measured'])} values: {verdict}"
        )
        for each in numbers.get(row["claim"], ()):
            click.echo(f"  {prints_over_seeds(each, row['measured'])}")
    if update and proposed:
        path = folder / "claims.toml"
        click.echo(f"proposed claims: {path}; compare them with lessons/claims.toml and copy those that you trust")
    elif update:
        click.echo("no claim was measured, so none is proposed")
    _leave(runs)


@course.command()
@root_option
def report(root: Path) -> None:
    """Show the results of the last run of the course again."""
    from covlab.course.course_report import read_results

    path = root / "build" / "course" / "results.json"
    with refusals(ValueError):
        results = read_results(path)
    for lesson in results["lessons"]:
        click.echo(f"{lesson['lesson']:<36} {lesson['status']:<12} {lesson['seconds']:6.1f} s")
        for problem in lesson["findings"]:
            click.echo(f"  {problem['place']}: {problem['kind']}: {problem['message']}")
    click.echo(f"{results['finished']}: {path.with_name('index.html')}")
    sys.exit(0 if results["passed"] else 1)


@course.command("site")
@root_option
@click.option("--handout", is_flag=True, help="Also pack the site into one archive, for a class without a network.")
def website(root: Path, handout: bool) -> None:
    """Build a static website, build/site/, from the last run of the lessons."""
    import myst_nb, sphinx, sphinx_book_theme  # noqa: E401, F401, I001  (a missing one is named before anything is built)

    from covlab.course.website import WebsiteError, build_website, make_handout
    from covlab.watch.invariant_pages import invariant_pages

    with refusals(LessonError, WebsiteError):
        first = build_website(root, editions.read_lessons(root), invariant_pages)
    click.echo(first)
    if handout:
        click.echo(make_handout(first.parent))


@course.command()
@root_option
def slides(root: Path) -> None:
    """Make a deck of slides for each lesson, build/slides/, from the last run: its pictures and predictions."""
    from covlab.course.slides import write_slides
    from covlab.course.website import WebsiteError

    with refusals(LessonError, WebsiteError, OSError):
        for path in write_slides(root, editions.read_lessons(root)):
            click.echo(path)


@course.command()
@root_option
@click.option("--check", is_flag=True, help="Change nothing; fail if a notebook differs from its lesson.")
@refusals(LessonError)
def notebooks(root: Path, check: bool) -> None:
    """Make the student edition, notebooks/, from lessons/."""
    if not check:
        for name in editions.write_student_editions(root):
            click.echo(f"notebooks/{name}")
    elif stale := editions.stale_student_editions(root):
        raise click.ClickException(f"differs from its lesson: {', '.join(stale)}; `covlab course notebooks` fixes this")


@course.command()
@root_option
@no_browser_option
@click.option("--ip", type=Text(), default="127.0.0.1", help="Address to listen on; in a container, 0.0.0.0.")
@click.option("--prepare", is_flag=True, help="Only make work/, for a front end that you start in another way.")
@refusals(LessonError, OSError)
def lab(root: Path, no_browser: bool, ip: str, prepare: bool) -> None:
    """Open JupyterLab on your own copy of the lessons, in work/: on lesson 00, later on the one you last worked on."""
    for copy in workspace.fill(root):
        click.echo(f"new: {copy}")
    if prepare:
        return
    command = [
        *(sys.executable, "-m", "jupyterlab", f"--ip={ip}"),
        f"--ServerApp.root_dir={(root / 'work').resolve()}",
        # These settings prevent JupyterLab from fetching news and looking for updates.
        f"--LabApp.app_settings_dir={Path(covlab.course.__file__).parent / 'lab_settings'}",
    ]
    if first := workspace.notebook_to_open(root):
        command.append(f"--LabApp.default_url=/lab/tree/{quote(first.name)}")
    if no_browser:
        command.append("--no-browser")
    if hasattr(os, "geteuid") and os.geteuid() == 0:
        command.append("--allow-root")  # in a container; Jupyter refuses root otherwise
    os.environ.setdefault("OMP_NUM_THREADS", "1")  # as in the runner: students see what was checked
    if sys.platform == "win32":  # there, execv would let the shell go on beside JupyterLab
        sys.exit(subprocess.call(command))
    os.execv(sys.executable, command)  # JupyterLab replaces this process, so it gets Ctrl-C


@course.command()
@root_option
@click.argument("lesson", type=Text())
@refusals(OSError)
@refusals(ValueError, usage=True)
def reset(root: Path, lesson: str) -> None:
    """Put a fresh copy of LESSON (such as 05) into work/, next to your own."""
    click.echo(f"new: {workspace.reset(root, lesson)}")


@course.command()
@root_option
def progress(root: Path) -> None:
    """Show the paths through the course, and which exercises are solved in work/."""
    from covlab.course import student_record
    from covlab.course.paths import STOPS

    rows = student_record.progress_rows(root / "work" / student_record.NAME)
    for lesson, exercises in groupby(rows, key=lambda row: row[0][:2]):
        click.echo(f"{lesson}  {STOPS[lesson].header.replace('**', '')}" if lesson in STOPS else lesson)
        for exercise, state, tries in exercises:
            click.echo(f"    {exercise:<28} {state}" + (f", {tries} tries" if tries > 1 else ""))
    click.echo(f"{student_record.summary(rows)} exercises solved. {student_record.what_is_next(rows)}")


@course.command("grade")
@click.argument("folder", type=ExistingPath(file_okay=False))
@click.option("--out", type=OutputFile(), metavar="FILE", help="Write the table to FILE.  [default: standard output]")
@click.option(
    "--seconds", type=Number(float, number(above=0, most=3600)), default=30.0, help="How long an answer may take."
)
@click.option(
    "--megabytes",
    type=Number(float, number(above=0, most=1e6)),
    default=2000.0,
    help="Memory that an answer may use, besides what PyTorch needs.",
)
def grade_class(folder: Path, out: Path | None, seconds: float, megabytes: float) -> None:
    """Run the answers of a class again, and write who solved what as CSV.

    FOLDER has one folder per student, with the notebooks in it or in its work/. What the students recorded changes no
    grade. Answers run as you, with your rights: TEACHING.md says what that means.
    """
    from covlab.course import grading

    with refusals(grading.GradingError, usage=True, prefix="FOLDER: "):
        students = grading.read_class(folder)
    for student in students:
        for name, why in student.unreadable.items():
            click.echo(f"{student.name}: {name} cannot be read: {why}", err=True)
        if not student.notebooks:
            click.echo(f"{student.name}: no notebook in {student.folder}", err=True)
    with refusals(grading.GradingError):
        rows = list(grading.grade(students, seconds=seconds, megabytes=megabytes))
    table = grading.as_csv(rows)
    if out is None:
        click.echo(table, nl=False)
    else:
        with refusals(OSError):
            write_atomically(out, lambda new: new.write_text(table, encoding="utf-8"))
    solved = sum(row.solved for row in rows)
    click.echo(
        f"{len(students)} students: {solved} of {len(rows)} exercises solved{f': {out}' if out else ''}", err=True
    )


@course.command()
@click.option("--update", is_flag=True, help="Run every setup again and replace the shipped data (takes minutes).")
@click.option(
    "--seeds",
    type=Number(int, whole_number(5, 1000)),
    default=16,
    help="With --update: number of seeds, starting at 100.",
)
def band(update: bool, seeds: int) -> None:
    """Show which runs the reference bands come from, or measure them again."""
    from covlab.course import reference_band

    if update:
        made = {"command": f"covlab course band --update --seeds {seeds}", "environment": provenance()}
        entries = {
            name: reference_band.measure_references(name, range(100, 100 + seeds), partial(print, name))
            | {"made": made}
            for name in reference_band.SETUPS
        }
        text = json.dumps(entries) + "\n"
        with refusals(OSError):
            write_atomically(reference_band.DATA, lambda new: new.write_text(text, encoding="utf-8"))
    for name, entry in json.loads(reference_band.DATA.read_text(encoding="utf-8")).items():
        ends = sorted(curve[-1] for curve in entry["validation"])
        click.echo(
            f"{name}: {len(ends)} runs of {len(entry['train'][0])} epochs, validation {ends[0]:.4f} to {ends[-1]:.4f} "
            f"at the end; {entry['made']['command']}, torch {entry['made']['environment']['versions']['torch']}"
        )


def _execute(runs: "list[Run]", claims: dict[str, Claim], last: Path, new: Path, jobs: int) -> dict[str, Any]:
    """Run the lessons with a live display, write the report, and return the results.

    last: the folder with the results of the last run. new: the folder for these.
    """
    from covlab.course.course_report import read_results, write_report
    from covlab.course.lesson_processes import IS_LINUX, LIMIT
    from covlab.course.live_table import live_table
    from covlab.course.runner import run_all

    if not IS_LINUX:
        click.echo(LIMIT, err=True)
    expected: dict[str, float] = {}
    with suppress(ValueError):  # there are no results yet, or they are damaged
        before = read_results(last / "results.json")["lessons"]
        expected = {each["lesson"]: each["seconds"] for each in before if each["status"] == "passed"}
    for name in ("SIGTERM", "SIGHUP"):  # a canceled job, or a closed terminal, leaves a report, like Ctrl-C
        number = getattr(signal, name, None)  # Windows has no SIGHUP
        if number is not None and signal.getsignal(number) is signal.SIG_DFL:  # nohup has it ignored
            signal.signal(number, signal.default_int_handler)
    began = time.monotonic()
    # provenance imports torch, which takes seconds, so it runs in a second thread while the first lesson starts.
    # OSError: the terminal is closed, or nobody reads the pipe; the lessons go on, and the results are kept.
    with ThreadPoolExecutor(1) as executor, suppress(OSError), live_table(Console(), expected) as progress:
        environment = executor.submit(provenance)

        def show(runs: "list[Run]") -> None:
            with suppress(OSError):
                progress(runs)

        run_all(runs, claims, jobs=jobs, on_change=show)
    return write_report(runs, claims, new, time.monotonic() - began, environment.result())


def _show_problems(runs: "list[Run]") -> None:
    # Runs with several seeds find the same problems in the prose. Print each of them once.
    problems = {(each.location(problem), problem.message): problem for each in runs for problem in each.problems}
    show = partial(Console().print, markup=False, highlight=False, soft_wrap=True)
    for (location, message), problem in problems.items():
        show(f"\n{location}: {problem.kind}: {message}", style="red" if problem.fatal else "yellow")
        if problem.lines:
            show("\n".join(problem.lines))


def _leave(runs: "list[Run]") -> None:
    interrupted = any(each.status == "interrupted" for each in runs)
    sys.exit(130 if interrupted else 1 if any(each.failed for each in runs) else 0)


def _literal(text: str) -> object:
    try:
        return ast.literal_eval(text)
    except (ValueError, SyntaxError, TypeError, MemoryError, RecursionError):
        return text  # -p profile gpu
