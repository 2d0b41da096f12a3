"""`covlab bench`: run a benchmark of a clone of the repository."""

import ast
import runpy
import sys
from pathlib import Path

import click

from covlab.cli.options import OutputFile, Text, shown

FOLDER = Path(__file__).parents[2] / "benchmarks"


@click.command(context_settings={"ignore_unknown_options": True, "help_option_names": []})
@click.argument("name", type=Text(), required=False)
@click.argument("arguments", nargs=-1, type=click.UNPROCESSED)
@click.option("--json", "file", type=OutputFile())  # checked here, because a benchmark writes it at its end
def bench(name: str | None, arguments: tuple[str, ...], file: Path | None) -> None:
    """Run the benchmark NAME with ARGUMENTS; without a name, list the benchmarks."""
    found = {path.stem: path for path in sorted(FOLDER.glob("*.py"))}
    if not found:
        raise click.ClickException(f"no benchmarks in {FOLDER}: only a clone of the repository has them")
    if name in (None, "--help", "-h"):
        for stem, path in found.items():
            summary = (ast.get_docstring(ast.parse(path.read_text(encoding="utf-8"))) or "").partition("\n")[0]
            click.echo(f"covlab bench {stem:10}  {summary}")
        return
    if name not in found:
        raise click.UsageError(f"NAME must be one of {', '.join(found)}, got {shown(name)}")
    sys.argv = [f"covlab bench {name}", *arguments, *([] if file is None else ["--json", str(file)])]
    runpy.run_path(str(found[name]), run_name="__main__")
