"""`covlab course …`: run the lessons, make their notebooks, open a student's own copies."""

import os
import sys
from pathlib import Path

import click
from rich.console import Console

from covlab.course import editions, workspace


class _Refusal(click.ClickException):
    """A message for the person at the terminal, without a traceback."""


root_option = click.option(
    "--root", type=click.Path(path_type=Path, file_okay=False, exists=True), default=".",
    help="A clone of covlab: where lessons/ and notebooks/ are.  [default: here]")


@click.group()
def course():
    """Run, check and open the lessons."""


@course.command()
@root_option
@click.option("--only", multiple=True, metavar="NN", help="Only lessons whose names begin so; may be repeated.")
@click.option("--jobs", type=click.IntRange(1), default=1, show_default=True, help="Lessons at a time.")
@click.option("--budget", type=click.FloatRange(0, min_open=True), metavar="SECONDS",
              help="Time budget of every lesson, in place of its own; one that takes three times as long is stopped.")
def run(root, only, jobs, budget):
    """Run every lesson with its solutions; the report goes to build/course/."""
    from covlab.course.progress import Progress
    from covlab.course.report import write_report
    from covlab.course.runner import run_lessons

    lessons = _or_refuse(editions.read_lessons, root, only)
    folder = root / "build" / "course"
    console = Console()
    with Progress(console) as progress:
        runs = run_lessons(lessons, root / "build", budget=budget, jobs=jobs, watch=progress)
    results = write_report(runs, folder, {})
    for each in runs:
        if each.failed:
            console.print(f"\n{each.place}: {each.status}: {each.message}", style="red", markup=False, highlight=False)
            console.print("\n".join(each.lines), markup=False, highlight=False)
    passed = sum(each.status == "passed" for each in runs)
    console.print(f"{passed} of {len(runs)} lessons passed in {results['seconds']:.0f} s: {folder / 'index.html'}",
                  highlight=False, soft_wrap=True)
    sys.exit(0 if results["passed"] else 1)


@course.command()
@root_option
@click.option("--check", is_flag=True, help="Change nothing; fail when a notebook differs from its lesson.")
def notebooks(root, check):
    """Make the student edition, notebooks/, from lessons/."""
    if check:
        stale = _or_refuse(editions.stale_student_editions, root)
        if stale:
            raise _Refusal(f"differs from its lesson: {', '.join(stale)}; `make notebooks` mends it")
        return
    for name in _or_refuse(editions.write_student_editions, root):
        click.echo(f"notebooks/{name}")


@course.command()
@root_option
@click.option("--no-browser", is_flag=True, help="Only print the address.")
def lab(root, no_browser):
    """Open JupyterLab on your own copy of the lessons, in work/."""
    for copy in workspace.fill(root):
        click.echo(f"new: {copy}")
    command = [sys.executable, "-m", "jupyterlab", "--ip=127.0.0.1", f"--ServerApp.root_dir={(root / 'work').resolve()}"]
    if no_browser:
        command.append("--no-browser")
    if hasattr(os, "geteuid") and os.geteuid() == 0:
        command.append("--allow-root")  # in a container; Jupyter refuses root otherwise
    os.execv(sys.executable, command)  # JupyterLab takes this process's place, so Ctrl-C is its own


@course.command()
@root_option
@click.argument("lesson")
def reset(root, lesson):
    """Put a fresh copy of LESSON (05, say) into work/, beside your own."""
    click.echo(f"new: {_or_refuse(workspace.reset, root, lesson)}")


def _or_refuse(function, *arguments):
    try:
        return function(*arguments)
    except ValueError as error:
        raise _Refusal(str(error)) from error
