"""Check arguments. Every error names the argument, the values it may have and the value it got.

A function says in its signature what its arguments may be, and ``checked`` compares every call with that::

    @checked
    def draw(self, scenes: Count, generator: torch.Generator) -> Batch: ...

A class of the annotation itself is enough (``bool``, ``Batch``, ``list[Batch]``, ``float | None``); a narrower range is
an ``Annotated`` type, such as ``Count`` (tensors and devices: :mod:`covlab.tensor_arguments`). A dataclass has a table
with one line for each field instead::

    FIELDS = {"windows": whole_number(1), "clip": number(above=0).or_none("no clipping")}
    check_fields(recipe, FIELDS)
"""

import functools
import inspect
import math
import numbers
import sys
import types
from collections import deque
from collections.abc import Callable, Iterable, Mapping, Sequence
from pathlib import Path
from typing import Annotated, Any, NamedTuple, ParamSpec, TypeVar, Union, get_args, get_origin, get_type_hints

P = ParamSpec("P")
R = TypeVar("R")

LARGEST = (2 - 2**-23) * 2.0**127  # of torch.float32, written out because torch takes a second to load
"""The largest number that is finite on a device."""

MOST = 2**24
"""The largest count. The ledger keeps counts in single precision, which is exact up to here."""


class Allowed(NamedTuple):
    """The values that an argument may have."""

    expected: str  #: what an error says after "must be"
    accepts: Callable[[Any], bool]
    axes: tuple[str, ...] = ()  #: of a tensor; within a call, axes of one name have one length
    unless_none: "Allowed | None" = None  #: the same without None, if None is allowed

    def or_none(self, meaning: str) -> "Allowed":
        """Allow None as well, which means ``meaning``."""
        expected = f"{self.expected}, or None for {meaning}"
        return Allowed(expected, lambda value: value is None or self.accepts(value), self.axes, self)

    def check(self, name: str, value: object) -> None:
        """Raise ValueError unless the argument ``name`` may have this value."""
        if not self.accepts(value):
            raise ValueError(f"{name} must be {self.expected}, got {described(value)}")


def described(value: Any) -> str:
    """Say in a few words what came: dtype, shape and device of a tensor, otherwise the value, or its class."""
    if hasattr(value, "dtype") and hasattr(value, "shape"):
        device = f" on {value.device}" if hasattr(value, "device") else ""
        return f"{value.dtype} {list(value.shape)}{device}"
    try:
        text = repr(value)
    except Exception:  # noqa: BLE001 - it may be the caller's, and Python refuses to write a very long number
        text = ""
    return text if text and len(text) <= 200 and text.isprintable() else f"an object of class {type(value).__name__}"


def check_fields(owner: object, table: Mapping[str, Allowed], prefix: str = "") -> None:
    """Check every attribute of ``owner`` that ``table`` lists. Raise ValueError; ``prefix`` precedes the name in it."""
    for name, allowed in table.items():
        allowed.check(prefix + name, getattr(owner, name))


# ---------------------------------------------------------------- what an argument may be


def whole_number(least: int, most: float = math.inf) -> Allowed:
    """An int from ``least`` to ``most``."""
    limits = f"of at least {least}" if most == math.inf else f"from {least} to {most}"
    return Allowed(f"a whole number {limits}", lambda value: type(value) is int and least <= value <= most)


SEED = whole_number(0, 2**63 - 1)
"""A seed, as large as torch can take."""


def number(
    above: float = -math.inf, least: float = -math.inf, below: float = math.inf, most: float = math.inf
) -> Allowed:
    """A finite int or float. ``above`` and ``below`` exclude the limit itself; ``least`` and ``most`` include it."""
    limits = {"above": above, "of at least": least, "below": below, "at most": most}
    text = " and ".join(f"{word} {limit:g}" for word, limit in limits.items() if math.isfinite(limit))

    def accepts(value: Any) -> bool:
        real = isinstance(value, int | float) and not isinstance(value, bool) and abs(value) <= sys.float_info.max
        return real and above < value < below and least <= value <= most

    return Allowed(f"a finite number {text}".strip(), accepts)


def interval(end: Allowed) -> Allowed:
    """A tuple (low, high) with low <= high; ``end`` says what each of them may be."""

    def accepts(value: Any) -> bool:
        return isinstance(value, tuple) and len(value) == 2 and all(map(end.accepts, value)) and value[0] <= value[1]

    return Allowed(f"(low, high) with low <= high, each {end.expected}", accepts)


def one_of(choices: Iterable[object]) -> Allowed:
    """One of a few values."""
    known = tuple(choices)
    kinds = {type(choice) for choice in known}  # 1 == True, and an array compares with anything
    return Allowed(f"one of {', '.join(map(str, known))}", lambda value: type(value) in kinds and value in known)


SEQUENCES = (list, tuple, range, deque)


def sequence(item: Allowed, kinds: Any = SEQUENCES) -> Allowed:
    """A list, tuple, range or deque that is not empty; ``item`` says what each entry may be."""
    words = f"a non-empty {getattr(kinds, '__name__', 'list')}, each entry {item.expected}"
    return Allowed(words, lambda value: isinstance(value, kinds) and len(value) > 0 and all(map(item.accepts, value)))


def mapping(key: Allowed, item: Allowed) -> Allowed:
    """A mapping that is not empty; ``key`` and ``item`` say what each key and value may be."""

    def accepts(value: Any) -> bool:
        pairs = value.items() if isinstance(value, Mapping) else ()
        return len(pairs) > 0 and all(key.accepts(name) and item.accepts(each) for name, each in pairs)

    return Allowed(f"a non-empty mapping from {key.expected} to {item.expected}", accepts, item.axes)


def rows(*columns: str) -> Allowed:
    """Rows of a table: a non-empty list or tuple of mappings that have at least these columns."""
    each = Allowed(
        f"a mapping with {', '.join(columns) or 'any columns'}",
        lambda row: isinstance(row, Mapping) and all(column in row for column in columns),
    )
    return sequence(each)


def _is_path(value: Any, of_folder: bool) -> bool:
    """Return whether there is, or could be made, a folder or a file of this name."""
    if not isinstance(value, str | Path) or value == "" or "\0" in str(value):
        return False
    try:
        nearest = next(path for path in (Path(value), *Path(value).absolute().parents) if path.exists())
    except OSError:  # such as a name that is too long
        return False
    return nearest.is_dir() == of_folder if nearest == Path(value) else nearest.is_dir()


folder = Allowed("the path of a folder, new or existing", lambda value: _is_path(value, of_folder=True))
file = Allowed("the path of a file, new or existing", lambda value: _is_path(value, of_folder=False))
real = Allowed(
    "a number (±inf and NaN allowed)",
    lambda value: isinstance(value, numbers.Real) and not isinstance(value, bool),
)
text = Allowed("a text that is not empty", lambda value: isinstance(value, str) and value.strip() != "")

Count = Annotated[int, whole_number(1, MOST)]
Index = Annotated[int, whole_number(0, MOST)]
Size = Annotated[int, whole_number(1, 2**14)]  # of a layer
Seed = Annotated[int, SEED]
Positive = Annotated[float, number(above=0)]
Real = Annotated[float, real]
Text = Annotated[str, text]
Folder = Annotated[Path | str, folder]


# ---------------------------------------------------------------- a signature as the table


def allowed_by(annotation: Any) -> Allowed | None:
    """Return what a parameter with this annotation may be; None for anything."""
    origin, parts = get_origin(annotation), get_args(annotation)
    if origin is Annotated:
        return next(part for part in parts if isinstance(part, Allowed))
    if origin in (Union, types.UnionType):
        kinds = [allowed_by(part) or ANYTHING for part in parts]
        return Allowed(
            " or ".join(kind.expected for kind in kinds), lambda value: any(kind.accepts(value) for kind in kinds)
        )
    if origin is Callable:
        return Allowed("callable", callable)
    if origin is tuple and parts[-1] is not ...:
        each = [allowed_by(part) or ANYTHING for part in parts]
        return Allowed(
            f"({', '.join(kind.expected for kind in each)})",
            lambda value: (
                isinstance(value, tuple)
                and len(value) == len(each)
                and all(kind.accepts(entry) for kind, entry in zip(each, value, strict=True))
            ),
        )
    if origin in (list, tuple, Sequence):
        return sequence(allowed_by(parts[0]) or ANYTHING, SEQUENCES if origin is Sequence else origin)
    if origin in (dict, Mapping):
        return mapping(*(allowed_by(part) or ANYTHING for part in parts))
    if origin is Iterable:
        return Allowed("an iterable", lambda value: isinstance(value, Iterable) and not isinstance(value, str))
    if isinstance(origin, type):
        annotation = origin
    plain = {bool: one_of((True, False)), int: whole_number(-MOST, MOST), float: number(), type(None): NOTHING}
    if annotation in plain:
        return plain[annotation]
    if isinstance(annotation, type) and annotation not in (Any, object):
        article = "an" if annotation.__name__[0] in "AEIOU" else "a"
        words = "a text" if annotation is str else f"{article} {annotation.__name__}"
        return Allowed(words, lambda value: isinstance(value, annotation))
    return None


ANYTHING = Allowed("anything", lambda value: True)
NOTHING = Allowed("None", lambda value: value is None)


def checked(function: Callable[P, R]) -> Callable[P, R]:
    """Compare the arguments of every call with the annotations of ``function``, before it begins.

    Axes of one name must have one length in all tensors of a call, and in every argument that has ``axis_lengths``
    (a batch, a scenario). Tensors and batches of a call must be on one device.

    Raises:
        ValueError: an argument is not allowed; the message is one line that names it.
    """
    signature = inspect.signature(function)
    parameters = signature.parameters.values()
    several = {p.name for p in parameters if p.kind is p.VAR_POSITIONAL}
    by_name = {p.name for p in parameters if p.kind is p.VAR_KEYWORD}

    @functools.cache
    def table() -> dict[str, Allowed]:  # at the first call, when every name in an annotation is defined
        hints = get_type_hints(function, include_extras=True)
        found = {p.name: allowed_by(hints[p.name]) for p in parameters if p.name in hints}
        return {name: allowed for name, allowed in found.items() if allowed is not None}

    @functools.wraps(function)
    def call(*args: P.args, **kwargs: P.kwargs) -> R:
        try:
            given = signature.bind(*args, **kwargs).arguments
        except TypeError:
            return function(*args, **kwargs)  # raises the same error with the function's name
        lengths: dict[str, tuple[str, Any]] = {}
        if "self" in given:
            agree(f"this {type(given['self']).__name__}", given["self"], (), lengths)
        for name, allowed in table().items():
            if name not in given:
                continue
            value = given[name]
            each = value.items() if name in by_name else ((name, v) for v in (value if name in several else (value,)))
            for key, one in each:
                allowed.check(key, one)
                agree(key, one, allowed.axes, lengths)
        return function(*args, **kwargs)

    return call


def agree(name: str, value: Any, axes: tuple[str, ...], lengths: dict[str, tuple[str, Any]]) -> None:
    """Add the axes and device of one argument to ``lengths`` {axis: (argument, length)}; refuse other lengths."""
    if isinstance(value, Mapping) and axes:
        for each in value.values():
            agree(name, each, axes, lengths)
        return
    if isinstance(value, type):
        return  # its objects have axes, the class itself has none
    own = getattr(value, "axis_lengths", None) or dict(zip(axes, getattr(value, "shape", ()), strict=False))
    if hasattr(value, "device") and own:
        own = own | {"device": value.device}
    for axis, length in own.items():
        other, known = lengths.setdefault(axis, (name, length))
        if length == 0 and not name.startswith("this "):
            raise ValueError(f"{name} must not be empty, got {axis} = 0")
        if known != length:
            known = f"on {known}" if axis == "device" else f"of {axis} = {known}"
            raise ValueError(f"{name} must be {known}, like {other}, got {axis} = {length}")
