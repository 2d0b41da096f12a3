"""The command `covlab`: thin, and quick, because a command's code is imported only when it is called."""

import sys
from importlib import import_module

import click

# name -> where its click command lives, and the line `covlab --help` shows.
COMMANDS = {
    "bench": ("covlab.cli.bench:bench", "Run a benchmark of the clone."),
    "course": ("covlab.cli.course:course", "Run, check and open the lessons."),
    "train": ("covlab.cli.train:train", "Train a network, from a shell; take a run up again."),
    "tune": ("covlab.cli.tune:tune", "Tune loss weights, learning rate and width, on any number of machines."),
    "demo": ("covlab.cli.demo:demo", "For a class: clean and bugged, live, side by side."),
    "faults": ("covlab.cli.faults:faults", "The museum: bugs that raise no exception, and how to convict them."),
    "watch": ("covlab.cli.main:watch", "Watch a training script: which invariants it breaks, and where."),
    "env": ("covlab.cli.env:env", "Show versions, device and threads."),
}


class _Lazy(click.Group):
    def list_commands(self, context: click.Context) -> list[str]:
        return sorted(COMMANDS)

    def get_command(self, context: click.Context, name: str) -> click.Command | None:
        if name not in COMMANDS:
            return None
        module, attribute = COMMANDS[name][0].split(":")
        return getattr(import_module(module), attribute)

    def format_commands(self, context: click.Context, formatter: click.HelpFormatter) -> None:
        with formatter.section("Commands"):
            formatter.write_dl([(name, COMMANDS[name][1]) for name in self.list_commands(context)])


@click.command(
    add_help_option=False, context_settings={"ignore_unknown_options": True, "allow_interspersed_args": False}
)
@click.argument("arguments", nargs=-1, type=click.UNPROCESSED)
def watch(arguments: tuple[str, ...]) -> None:
    """The same as `python -m covlab.watch`, which needs no click."""
    from covlab.watch.__main__ import main as run

    sys.argv[1:] = arguments
    sys.exit(run())


@click.group(cls=_Lazy)
@click.version_option(package_name="covlab")
def main() -> None:
    """A course and workbench about training bugs that raise no exception."""
