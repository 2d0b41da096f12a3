"""Where a fault takes hold: methods of a few classes that may be replaced, and nothing is unless a fault is injected.

A replacement belongs to the *objects* made while the fault is injected, in that thread: the same class goes
on unharmed beside them, and so does every object made before or after.
"""

from collections.abc import Callable, Mapping
from contextvars import ContextVar
from types import MappingProxyType, MethodType

replaced_seams: ContextVar[Mapping[str, tuple[str, Callable]]] = ContextVar(
    "replaced_seams", default=MappingProxyType({})
)
"""{"Class.method": (fault, replacement)} for the objects made in this context; empty unless a fault was injected."""


def take_seams(owner: object) -> None:
    """Replace those methods of ``owner`` that an injected fault replaces. Called once, by its constructor."""
    for place, (_, replacement) in replaced_seams.get().items():
        kind, method = place.split(".")
        if kind == type(owner).__name__:
            object.__setattr__(owner, method, MethodType(replacement, owner))  # frozen dataclasses have seams too


def injected_faults() -> tuple[str, ...]:
    """Names of the faults injected in this context, in alphabetical order."""
    return tuple(sorted({fault for fault, _ in replaced_seams.get().values()}))
