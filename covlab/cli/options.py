"""Options and error messages that several commands share."""

from collections.abc import Iterator
from contextlib import contextmanager

import click


def _best_device() -> str:
    import torch

    return "cuda" if torch.cuda.is_available() else "cpu"


device_option = click.option("--device", default=_best_device, show_default="cuda if available, else cpu")
seed_option = click.option("--seed", default=0, help="Seed of the scenes and the initial parameters.")
no_browser_option = click.option("--no-browser", is_flag=True, help="Do not open a browser; only print the address.")


@contextmanager
def refusals(*kinds: type[Exception], prefix: str = "") -> Iterator[None]:
    """Show exceptions of these kinds as an error message without a traceback; the command exits with 1."""
    try:
        yield
    except kinds as error:
        raise click.ClickException(f"{prefix}{error}") from error
