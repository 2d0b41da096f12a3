"""Print one case of an exercise: the arguments, and the student's result next to the expected one."""

from collections.abc import Iterator, Mapping, Sequence
from typing import Any

import numpy as np
import torch

from covlab.course.exercises.compare import complaint, kind, relative_error, vector

ROWS, COLUMNS = 12, 6  # the largest tensor that is printed; of a larger one, norms
PARTS = 9  # how many entries of a list or a dictionary are printed
TOLD_APART = 14  # in a value with at most so many numbers, those that differ are printed differently
DIGITS = range(3, 9)
NEGLIGIBLE = 1e-6  # of the largest number of a tensor; smaller ones are printed as 0


def size(value: Any) -> int:
    """Return how many numbers and texts a value has."""
    if isinstance(value, torch.Tensor | np.ndarray):
        return int(np.prod(value.shape))
    if isinstance(value, Mapping):
        return sum(map(size, value.values()))
    return sum(map(size, value)) if isinstance(value, tuple | list) else 1


def case_text(arguments: Mapping[str, Any], got: Any, expected: Any) -> str:
    """Return the arguments and both results as lines of aligned text."""
    lines = [line for name, value in arguments.items() for line in _argument(name, value)]
    parts = [("", got, expected)] if complaint(got, expected) else list(_parts("", got, expected))
    table = [("", "yours", "expected")]
    notes: list[str] = []
    for label, one, other in parts[: 2 * PARTS]:
        table += _rows(label, one, other)
        notes += _notes(label, one, other)
    if len(parts) > 2 * PARTS:
        notes.append(f"… and {len(parts) - 2 * PARTS} more values")
    return "\n".join([*lines, *[""] * bool(lines), *_aligned(table), *notes])


def telling_digits(value: Any, least: int) -> int:
    """Return how many digits it takes to print the numbers of a short value differently if they differ.

    At least ``least``. If ten digits do not suffice, the difference is a rounding error, and ``least`` will do.
    """
    numbers = torch.view_as_real(vector(value)).flatten().tolist()
    different = len(set(numbers))
    if len(numbers) > 2 * TOLD_APART:
        return least
    return next(
        (most for most in range(least, 11) if len({f"{each:.{most}g}" for each in numbers}) >= different), least
    )


def raised_text(arguments: Mapping[str, Any], raised: str, expected: Any) -> str:
    """Return the arguments, what the answer raised, and the expected result as lines of aligned text."""
    lines = [line for name, value in arguments.items() for line in _argument(name, value)]
    table = [("yours", raised), *[("expected" if not row else "", text) for row, text in enumerate(_block(expected))]]
    return "\n".join([*lines, *[""] * bool(lines), *_aligned(table)])


def _parts(label: str, got: Any, expected: Any) -> Iterator[tuple[str, Any, Any]]:
    """Yield (label, part of the result, the same part of the expected one); both have the same form."""
    if isinstance(expected, Mapping):
        for key in expected:
            yield from _parts(f"{label}[{key!r}]", got[key], expected[key])
    elif isinstance(expected, tuple | list):
        for number, (one, other) in enumerate(zip(got, expected, strict=True)):
            yield from _parts(f"{label}[{number}]", one, other)
    else:
        yield label, got, expected


def _rows(label: str, got: Any, expected: Any) -> list[tuple[str, str, str]]:
    """Return a row for each line of two values: an entry of a vector, a row of a matrix, or the value."""
    if not _printable(got) or not _printable(expected):
        if complaint(got, expected):
            return [(label, kind(got), kind(expected))]
        norms = [f"{vector(each).norm().item():.4g}" for each in (got, expected)]
        return [(f"{label} norm".strip(), norms[0], norms[1])]
    for digits in DIGITS:  # as many as it takes to show that they differ
        left, right = _block(got, digits), _block(expected, digits)
        if left != right or not (len(vector(expected)) and relative_error(got, expected) > NEGLIGIBLE):
            break
    count = max(len(left), len(right))
    left, right = left + [""] * (count - len(left)), right + [""] * (count - len(right))
    names = [f"{label}[{row}]" if count > 1 else label for row in range(count)]
    return list(zip(names, left, right, strict=True))


def _notes(label: str, got: Any, expected: Any) -> list[str]:
    """Say how a large tensor differs from the expected one."""
    if (_printable(got) and _printable(expected)) or complaint(got, expected):
        return []
    one, other = vector(got), vector(expected)
    difference = (one - other).abs().nan_to_num(torch.inf, torch.inf)
    at = np.unravel_index(int(difference.argmax()), tuple(expected.shape))
    where = f"[{', '.join(str(int(each)) for each in at)}]"
    entries = [_number(each[int(difference.argmax())].item(), 4).removesuffix("+0j") for each in (one, other)]
    relative = f" ({100 * (one - other).norm() / other.norm():.3g} % of expected)" if other.norm() > 0 else ""
    return [
        f"{label} norm of the difference {(one - other).norm().item():.4g}{relative}".strip(),
        f"{label} largest difference at {where}: {entries[0]}, expected {entries[1]}".strip(),
    ]


def _argument(name: str, value: Any) -> list[str]:
    digits = telling_digits(value, 4)
    whole = _short(value, digits)  # a short vector, list or dictionary fits into one line
    block = [whole] if len(whole) <= 70 and whole != kind(value) else _block(value, digits)
    return [f"{name} = {block[0]}", *[" " * (len(name) + 3) + line for line in block[1:]]]


def _printable(value: Any) -> bool:
    if not isinstance(value, torch.Tensor | np.ndarray):
        return True
    shape = tuple(value.shape)
    return (len(shape) < 2 and size(value) <= ROWS) or (len(shape) == 2 and shape[0] <= ROWS and shape[1] <= COLUMNS)


def _block(value: Any, digits: int = 4) -> list[str]:
    """Return a value as lines: a vector has one for each entry, a matrix one for each row."""
    if isinstance(value, torch.Tensor | np.ndarray):
        return _tensor(value, digits) if _printable(value) else [kind(value)]
    if isinstance(value, Mapping | tuple | list):
        pairs = list(value.items() if isinstance(value, Mapping) else enumerate(value))
        lines = [f"[{key!r}] {line}" for key, each in pairs[:PARTS] for line in [_short(each, digits)]]
        return [*lines, f"… {len(pairs) - PARTS} more"] if len(pairs) > PARTS else lines or [kind(value)]
    return [_short(value, digits)]


def _short(value: Any, digits: int) -> str:
    """Return a value in one line."""
    if isinstance(value, str | bool) or value is None:
        text = repr(value)
    elif isinstance(value, int | float | complex):
        return _number(value, digits)
    elif isinstance(value, torch.Tensor | np.ndarray) and value.ndim <= 1 and size(value) <= ROWS:
        return f"[{', '.join(_tensor(value, digits))}]" if value.ndim else _tensor(value, digits)[0]
    elif isinstance(value, tuple | list) and len(value) <= PARTS:
        text = f"({', '.join(_short(each, digits) for each in value)})"
    elif isinstance(value, Mapping) and len(value) <= PARTS:
        text = f"{{{', '.join(f'{key!r}: {_short(each, digits)}' for key, each in value.items())}}}"
    else:
        return kind(value)
    return text if len(text) <= 100 else kind(value)


def _tensor(value: Any, digits: int) -> list[str]:
    values = torch.as_tensor(value).detach().cpu()
    if values.is_floating_point() or values.is_complex():
        values = _without_negligible(values.to(torch.complex128 if values.is_complex() else torch.float64))
    if values.ndim < 2:
        return [_number(each, digits) for each in values.reshape(-1).tolist()] or ["(no number)"]
    texts = [[_number(each, digits) for each in row] for row in values.tolist()]
    width = max((len(each) for row in texts for each in row), default=0)
    return ["  ".join(each.rjust(width) for each in row) for row in texts] or ["(no number)"]


def _without_negligible(values: torch.Tensor) -> torch.Tensor:
    if values.is_complex():
        return torch.view_as_complex(_without_negligible(torch.view_as_real(values.resolve_conj())))
    finite = values[values.isfinite()].abs()
    return torch.where(values.abs() < NEGLIGIBLE * finite.max(), 0.0, values) if len(finite) else values


def _number(value: Any, digits: int) -> str:
    if isinstance(value, bool | int) or (isinstance(value, float) and value.is_integer() and abs(value) < 1e6):
        return str(value if isinstance(value, bool) else int(value)).replace("-", "−")
    return f"{value:.{digits}g}".replace("-", "−")


def _aligned(table: Sequence[tuple[str, ...]]) -> list[str]:
    """Return rows of text whose columns are aligned; the first to the left, the others to the right if they fit."""
    widths = [max(len(row[column]) for row in table) for column in range(len(table[0]))]
    return [
        "   ".join(
            text.ljust(width) if number == 0 or width > 40 else text.rjust(width)
            for number, (text, width) in enumerate(zip(row, widths, strict=True))
        ).rstrip()
        for row in table
    ]
