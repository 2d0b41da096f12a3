"""Functions replaced for a while, everywhere they are known by name, and put back."""

import functools
import sys
from collections.abc import Callable
from typing import Any


class Patches:
    """What was replaced, and by what it is put back."""

    def __init__(self):
        self._undo: list[tuple[object, str, Any, bool]] = []

    def method(self, owner: type | object, name: str, wrap: Callable[[Callable], Callable]) -> None:
        """Replace ``owner.name`` by ``wrap(original)``."""
        own = name in vars(owner)
        original = getattr(owner, name)
        replacement = functools.wraps(original)(wrap(original))
        self._undo.append((owner, name, original, own))
        setattr(owner, name, replacement)

    def function(self, module: object, name: str, wrap: Callable[[Callable], Callable]) -> None:
        """The same for a module's function, also where another module has imported it by name."""
        original = getattr(module, name)
        replacement = functools.wraps(original)(wrap(original))
        for other in list(sys.modules.values()):
            names = getattr(other, "__dict__", None)
            if isinstance(names, dict):
                for key in [key for key, value in list(names.items()) if value is original]:
                    self._undo.append((other, key, original, True))
                    setattr(other, key, replacement)

    def restore(self) -> None:
        """Put everything back, the latest first."""
        while self._undo:
            owner, name, original, own = self._undo.pop()
            if own:
                setattr(owner, name, original)
            else:
                delattr(owner, name)
