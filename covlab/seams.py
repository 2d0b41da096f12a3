"""Seams: methods that a fault may replace. Nothing is replaced unless a fault is injected.

A fault affects only the *objects* that are made while it is injected, in the same thread. All other objects of the same
class are unaffected.
"""

from collections.abc import Callable, Mapping
from contextvars import ContextVar
from types import MappingProxyType, MethodType

replaced_seams: ContextVar[Mapping[str, tuple[str, Callable]]] = ContextVar(
    "replaced_seams", default=MappingProxyType({})
)
"""{"Class.method": (fault, replacement)} for the objects made in this context; empty unless a fault was injected."""


def take_seams(owner: object) -> None:
    """Give ``owner`` the methods of the injected faults. The constructor of ``owner`` calls this once."""
    for seam, (_, replacement) in replaced_seams.get().items():
        kind, method = seam.split(".")
        if kind == type(owner).__name__:
            object.__setattr__(owner, method, MethodType(replacement, owner))  # works for frozen dataclasses too


def injected_faults() -> tuple[str, ...]:
    """Names of the faults injected in this context, in alphabetical order."""
    return tuple(sorted({fault for fault, _ in replaced_seams.get().values()}))
