"""The command `covlab`, also `python -m covlab`. PyTorch alone is enough for `covlab watch`."""

import sys
from io import TextIOWrapper

from covlab import __version__
from covlab.cli import COMMANDS

EXTRAS = {
    "optuna": "tune",
    "sqlalchemy": "tune",
    "voila": "dashboard",
    "sphinx": "site",
    "myst_nb": "site",
    "sphinx_book_theme": "site",
}
"""Packages that only one use of a command needs, and the extra that installs each."""

NEEDS_MORE = {("course", "site"): "site", ("demo", "dashboard"): "dashboard", ("train", "--study"): "tune"}
"""Uses of a command that need more than the others, and the extra that installs it all."""


def main() -> None:
    """Run `covlab`; where a package of an extra is missing, say in one line how to install it."""
    if sys.argv[1:2] == ["watch"]:
        from covlab.watch.__main__ import main as watch

        sys.argv[:2] = sys.argv[:1]
        sys.exit(watch())
    if sys.argv[1:] == ["--version"]:  # also where click is missing
        print(f"covlab {__version__}")
        return
    if isinstance(sys.stdout, TextIOWrapper):  # a pipe on Windows cannot take every letter
        sys.stdout.reconfigure(errors="backslashreplace")
    try:
        from covlab.cli.main import main as run

        run()
    except OSError as error:  # a full disk below the output, for instance; a reader that went away ends click quietly
        sys.exit(f"Error: {f'{error.filename}: ' if error.filename else ''}{error.strerror or error}")
    except ModuleNotFoundError as missing:
        package = (missing.name or "").partition(".")[0]
        if package in ("", "covlab"):
            raise
        named = [word for word in sys.argv[1:2] if word in COMMANDS]
        group = COMMANDS[named[0]][1] if named else "workbench"
        words = {word.partition("=")[0] for word in sys.argv[2:]}
        more = (extra for (command, word), extra in NEEDS_MORE.items() if named == [command] and word in words)
        extra = next(more, None) or EXTRAS.get(package) or group
        also = "" if named else "; only `covlab watch` works without it"
        sys.exit(f"Error: {' '.join(['covlab', *named])} needs {package}: pip install 'covlab[{extra}]'{also}")


if __name__ == "__main__":
    main()
