"""The command `covlab`. It starts fast because it imports a command's code only when that command runs."""

import sys
from importlib import import_module

import click

from covlab import __version__
from covlab.cli import COMMANDS


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
            formatter.write_dl([(name, COMMANDS[name][2]) for name in self.list_commands(context)])


@click.command(
    add_help_option=False, context_settings={"ignore_unknown_options": True, "allow_interspersed_args": False}
)
@click.argument("arguments", nargs=-1, type=click.UNPROCESSED)
def watch(arguments: tuple[str, ...]) -> None:
    """Run `python -m covlab.watch`, which does not need click."""
    from covlab.watch.__main__ import main as run

    sys.argv[1:] = arguments
    sys.exit(run())


@click.group(cls=_Lazy, context_settings={"show_default": True})
@click.version_option(__version__, message="covlab %(version)s")
def main() -> None:
    """A course and workbench about training bugs that raise no exception."""
