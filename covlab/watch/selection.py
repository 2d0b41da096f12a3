"""Which invariants are checked, and the settings of a project: the table [tool.covlab.watch] of its pyproject.toml."""

import tomllib
from collections.abc import Callable, Iterable
from pathlib import Path
from typing import Any

from covlab.watch import blind_spots
from covlab.watch.invariants import TITLES
from covlab.watch.report import FAIL_ON


def codes_of(name: str, value: str | Iterable[str]) -> list[str]:
    """Return the codes in ``value``: a list of them, or a text with commas between them.

    Raises:
        ValueError: there is none, or one is unknown; the message starts with ``name``.
    """
    given = value.split(",") if isinstance(value, str) else list(value) if isinstance(value, Iterable) else [value]
    if not given or not all(isinstance(code, str) and code.strip() for code in given):
        raise ValueError(f"{name} must be codes such as W01 and W13, got {value!r}")
    codes = [code.strip().upper() for code in given]
    for code in codes:
        if code == blind_spots.CODE:
            raise ValueError(f"{name}: {code} ({blind_spots.TITLE}) is always checked")
        if code not in TITLES:
            raise ValueError(f"{name}: no such code: {code!r}; there are {', '.join(TITLES)}")
    return codes


def ignored_codes(select: str | Iterable[str] | None, ignore: str | Iterable[str] | None) -> list[str]:
    """Return the codes that are not checked, in order.

    Raises:
        ValueError: a code is unknown, or none is left.
    """
    selected = list(TITLES) if select is None else codes_of("select", select)
    ignored = [] if ignore is None else codes_of("ignore", ignore)
    if not set(selected) - set(ignored):
        raise ValueError("select and ignore leave no invariant to check")
    return [code for code in TITLES if code not in selected or code in ignored]


def project_settings(folder: Path) -> dict[str, Any]:
    """Return the settings of the pyproject.toml in ``folder`` or nearest above it; {} if there is none.

    Args:
        folder: its absolute path, without links.

    Names are those of the options, with "_"; the path of the baseline is absolute.

    Raises:
        OSError: the file cannot be read.
        ValueError: a key is unknown, or a value is wrong. The message names the file and the key.
    """
    candidates = (parent / "pyproject.toml" for parent in (folder, *folder.parents))
    path = next((one for one in candidates if one.is_file()), None)
    if path is None:
        return {}
    try:
        return _settings(tomllib.loads(path.read_text(encoding="utf-8")), path.parent)
    except ValueError as error:  # also of a file that is no TOML, or no UTF-8
        raise ValueError(f"{path}: {error}") from error


def _settings(content: dict[str, Any], folder: Path) -> dict[str, Any]:
    table: Any = content
    for name in ("tool", "covlab", "watch"):
        table = table.get(name, {})
        if not isinstance(table, dict):
            raise ValueError(f"[tool.covlab.watch] must be a table, and {name} is {table!r}")
    checks: dict[str, Callable[[Any], Any]] = {
        "select": lambda value: codes_of("select", value),
        "ignore": lambda value: codes_of("ignore", value),
        "baseline": lambda value: str(folder / _text("baseline", value)),
        "fail-on": _level,
        "light": _flag,
    }
    unknown = next((key for key in table if key not in checks), None)
    if unknown is not None:
        raise ValueError(f"[tool.covlab.watch] has no key {unknown!r}; there are {', '.join(checks)}")
    return {key.replace("-", "_"): checks[key](value) for key, value in table.items()}


def _text(name: str, value: object) -> str:
    if not isinstance(value, str) or not value:
        raise ValueError(f"{name} must be the name of a file, got {value!r}")
    return value


def _level(value: object) -> object:
    if value not in FAIL_ON:
        raise ValueError(f"fail-on must be one of {', '.join(FAIL_ON)}, got {value!r}")
    return value


def _flag(value: object) -> object:
    if not isinstance(value, bool):
        raise ValueError(f"light must be true or false, got {value!r}")
    return value
