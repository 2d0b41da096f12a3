"""What is remembered of a training loop: calls, and numbers that are still on the device."""

import linecache
import sys
import sysconfig
from collections.abc import Callable
from dataclasses import dataclass, field
from functools import lru_cache
from pathlib import Path

import torch
from torch import Tensor

from covlab.watch.aside import plain

_TORCH = str(Path(torch.__file__).parent)
_HERE = str(Path(__file__).parent)
_STANDARD = tuple({sysconfig.get_path(name) for name in ("stdlib", "platstdlib")})


@dataclass(frozen=True)
class Site:
    """A place in somebody's code."""

    file: str
    line: int
    function: str

    @property
    def code(self) -> str:
        return linecache.getline(self.file, self.line).strip()

    @property
    def quoted(self) -> str:
        """The place and its code, where there is a file to read it from."""
        return f"{self}: {self.code}" if self.code else str(self)

    def __str__(self) -> str:
        name = short(self.file)
        return f"{name}, line {self.line}" if " " in name else f"{name}:{self.line}"


def short(file: str) -> str:
    """The path as seen from the current folder, if it lies below it; else its last two parts; a notebook's cell as
    such.
    """
    path = Path(file)
    if "ipykernel_" in file or file.startswith("<ipython-input"):
        return "a cell of this notebook"
    if path.is_absolute() and path.is_relative_to(Path.cwd()):
        return str(path.relative_to(Path.cwd()))
    return "/".join(path.parts[-2:])


@lru_cache(maxsize=4096)
def _kind(file: str) -> str:
    if file.startswith((_TORCH, _HERE, "<frozen")) or file == "<string>":
        return "machinery"
    if "site-packages" in file or "dist-packages" in file:
        return "library"
    return "machinery" if file.startswith(_STANDARD) else "own"


@lru_cache(maxsize=4096)
def _site(file: str, line: int, function: str) -> Site:
    return Site(file, line, function)


def caller() -> Site | None:
    """The innermost line of the user's own code that is running; of a library's, where there is none."""
    frame, library = sys._getframe(1), None
    while frame is not None:
        kind = _kind(frame.f_code.co_filename)
        if kind == "own" or (kind == "library" and library is None):
            site = _site(frame.f_code.co_filename, frame.f_lineno, frame.f_code.co_name)
            if kind == "own":
                return site
            library = site
        frame = frame.f_back
    return library


class Number:
    """A scalar that may still be on its device; ``value`` is None until it has been brought in."""

    __slots__ = ("value",)

    def __init__(self, value: float | None = None):
        self.value = value


class Pending:
    """Scalars and vectors on their devices, brought in together: one wait for many windows."""

    def __init__(self):
        self.scalars: list[tuple[Tensor, Number]] = []
        self.vectors: list[tuple[Tensor, Callable[[list], None]]] = []

    def __len__(self) -> int:
        return len(self.scalars) + len(self.vectors)

    @torch.no_grad()
    def number(self, tensor: Tensor) -> Number:
        """A number that will have the value which ``tensor`` [] or [1] has now, if nobody writes into it; None if it
        cannot be read.
        """
        return self.fill(Number(), tensor)

    def fill(self, number: Number, tensor: Tensor) -> Number:
        tensor = plain(tensor)
        if tensor is not None:
            self.scalars.append((tensor, number))
        return number

    def vector(self, tensor: Tensor, receive: Callable[[list], None]) -> None:
        self.vectors.append((tensor, receive))

    @torch.no_grad()
    def bring_in(self) -> None:
        scalars, self.scalars = self.scalars, []
        vectors, self.vectors = self.vectors, []
        for device in {tensor.device for tensor, _ in scalars}:
            there = [(tensor, number) for tensor, number in scalars if tensor.device == device]
            values = torch.stack([tensor.reshape(()).to(torch.float64) for tensor, _ in there]).tolist()
            for (_, number), value in zip(there, values, strict=True):
                number.value = value
        for tensor, receive in vectors:
            receive(tensor.tolist())


@dataclass
class Forward:
    """One outermost call of a module that has parameters, with the gradient on."""

    site: Site | None
    module: int
    training: bool
    stochastic: bool  #: an optimizer trains it, and it has dropout that drops or batch statistics
    batch_statistics: bool
    half: bool  #: some of it ran in float16
    visible: bool  #: an output was found whose use by a backward can be seen
    after: int = 0  #: backwards before it
    print: list = field(default_factory=list)  #: fingerprints of the samples it was given
    used: list[int] = field(default_factory=list)  #: backwards that came through it
    handles: list = field(default_factory=list)  #: of the hooks that see this


@dataclass
class Term:
    """A reduction that the loss is made of, and its share."""

    kind: str  #: "mean", "sum" or "other"
    weight: Number  #: d(root)/d(reduction)
    count: Number  #: of the elements that a sum adds up; 1 otherwise
    inside: list[tuple[bool, Number]] = field(
        default_factory=list
    )  #: (divided?, factor) that every element was scaled by
    masked: bool = False  #: elements were weighed one by one, or what they are a mean of cannot be told
    classes: int = 0  #: of a cross-entropy


@dataclass
class Backward:
    """One call of backward."""

    number: int
    site: Site | None
    loss: Number | None = None  #: the root
    scale: Number | None = None  #: what the scaler multiplied it by
    top: Number | None = None  #: d(root)/d(what lies below the root's own scalings)
    terms: list[Term] = field(default_factory=list)
    linear: bool = False  #: nothing but additions and scalings between root and terms
    path: list[Number] = field(default_factory=list)  #: every factor met on the way
    stepped: bool = False  #: some optimizer made a step of it


@dataclass
class Step:
    """What one optimizer made of the backwards since its gradients were cleared."""

    optimizer: int
    number: int  #: of this optimizer's attempts, from 1
    site: Site | None
    backwards: list[Backward]
    forwards: list[Forward]
    attempted: bool = True  #: False: the scaler skipped it without calling the optimizer
    found_inf: Number | None = None  #: what the optimizer was told, where it decides by itself
    size: Number | None = None  #: of the gradients: 0 if all are zero, not finite if one is not
    zeros: Number | None = None  #: share of zeros among the gradients, in float16 without a scale
    tiny: Number | None = None  #: share of what float16 has few bits for, among those that are not zero
    moved: Number | None = None  #: above 0: a parameter changed
    wholly: bool = False  #: every element was compared, not a sample
    rates: list[float | Number] = field(default_factory=list)
    carried: bool = False  #: gradients that a former step had already taken
    carried_size: Number | None = None  #: their size absolute value, where nobody was seen to clear them
    schedules: list[tuple[int, Site | None]] = field(default_factory=list)  #: calls of schedules since the step before
    clips: list[tuple[Site | None, bool]] = field(default_factory=list)  #: (where, still scaled?)
    factors: list[Number] = field(
        default_factory=list
    )  #: by which the gradients were multiplied by hand since the last backward
    raw: Number | None = None  #: the loss scale that nobody was seen to take out of the gradients
    assigned: bool = False  #: the loop put tensors of its own in the gradients' place
    hooked: bool = False  #: hooks on the parameters may have changed their gradients
    closure: bool = False
    measured: bool = True  #: False: a light watch looked away

    @property
    def ran(self) -> bool:
        return self.attempted and not (self.found_inf is not None and self.found_inf.value)


@dataclass
class Cleared:
    """Gradients that were thrown away before any optimizer took them."""

    optimizer: int
    site: Site | None
    backwards: list[Backward]
    size: Number | None  #: as of a step
    after: int  #: attempts of this optimizer so far
