"""What several commands share: options, and errors without a traceback."""

from collections.abc import Iterator
from contextlib import contextmanager

import click


def _best_device() -> str:
    import torch

    return "cuda" if torch.cuda.is_available() else "cpu"


device_option = click.option("--device", default=_best_device, show_default="cuda if available, else cpu")
seed_option = click.option("--seed", default=0, help="Of scenes and first parameters.")
no_browser_option = click.option("--no-browser", is_flag=True, help="Only print the address.")


@contextmanager
def refusals(*kinds: type[Exception]) -> Iterator[None]:
    """Show exceptions of these kinds as an error message of the command, which exits with 1."""
    try:
        yield
    except kinds as error:
        raise click.ClickException(str(error)) from error
