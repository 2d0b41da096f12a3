"""Observe attempts to freeze or unfreeze parameters that have no effect."""

import re
import sys
import weakref
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Any

from torch import nn

from covlab.watch.seen.events import Step
from covlab.watch.seen.location import CodeLocation, called_from_folder, caller_location, is_internal
from covlab.watch.seen.observation import FreezeAttempt
from covlab.watch.seen.optimizer import WatchedOptimizer
from covlab.watch.seen.patches import Patches
from covlab.watch.seen.recorder import Recorder
from covlab.watch.seen.steps import ATTEMPTS_THAT_DESCRIBE_PARAMETERS

FLAG = "requires_grad"
MOST_EDITS = 2  # between a misspelled name and the right one, without underscores
ONLY_SHOWS = re.compile(r"(print|assert|log|logger|logging)\b")
SETTINGS_KEPT = 4096


@dataclass
class _Setting:
    """One assignment to ``module.requires_grad``."""

    module: "weakref.ref[nn.Module]"
    location: CodeLocation | None


class _ModuleFlag:
    """``nn.Module.requires_grad``: behaves as if it were no descriptor, and tells who sets and who reads it.

    It is no ``property``, which torch.jit.script would compile.
    """

    def __init__(self, on_set: Callable[[nn.Module], None], on_read: Callable[[nn.Module], None]) -> None:
        self.on_set, self.on_read = on_set, on_read

    def __get__(self, module: nn.Module | None, owner: type) -> Any:
        if module is None or FLAG not in vars(module):
            raise AttributeError(f"type object '{owner.__name__}' has no attribute '{FLAG}'")
        self.on_read(module)
        return vars(module)[FLAG]

    def __set__(self, module: nn.Module, value: object) -> None:
        vars(module)[FLAG] = value
        self.on_set(module)

    def __delete__(self, module: nn.Module) -> None:
        if FLAG not in vars(module):
            raise AttributeError(FLAG)
        del vars(module)[FLAG]


class FreezingObserver:
    def __init__(self, recorder: Recorder) -> None:
        self.recorder, self.seen = recorder, recorder.observation
        self._settings: dict[int, _Setting] = {}  # by the id of the module
        self._classes: dict[str, CodeLocation | None] = {}  # the line that set the flag of such a module last
        self._own: set[type] = set()  # classes that set the flag of their modules when these are made
        self._read: set[type] = set()  # classes of modules whose flag is read
        recorder.before_steps.append(("freezing", self._before_step))
        recorder.at_end.append(("freezing", self._look))

    def patch(self, patches: Patches) -> None:
        if FLAG not in vars(nn.Module):
            guard = self.recorder.guard
            flag = _ModuleFlag(
                lambda module: guard("freezing", self._set, module),
                lambda module: guard("freezing", self._was_read, module),
            )
            patches.new_attribute(nn.Module, FLAG, flag)

    def _set(self, module: nn.Module) -> None:
        location = caller_location()
        if location is not None and location.function == "__init__" and _runs_in_method_of(module):
            self._own.add(type(module))
        if len(self._settings) < SETTINGS_KEPT:
            self._settings[id(module)] = _Setting(weakref.ref(module), location)
        self._classes[type(module).__qualname__] = location

    def _was_read(self, module: nn.Module) -> None:
        location = caller_location()
        is_used = location is not None and not ONLY_SHOWS.match(location.code) and not _is_read_by_torch()
        if is_used:
            self._read.add(type(module))

    # ---------------------------------------------------------------- what came of it

    def _before_step(self, watched: WatchedOptimizer, step: Step) -> None:
        if step.number in ATTEMPTS_THAT_DESCRIBE_PARAMETERS:
            self._look()

    def _look(self) -> None:
        """Find parameters that are trained although the loop tried to freeze them, and the other way round."""
        with_gradient = set[int]().union(*(watched.with_gradient for watched in self.seen.optimizers.values()))
        trained = with_gradient.intersection(map(id, self.seen.held_parameters()))
        seen: set[int] = set()
        for model in list(self.seen.models):
            for name, part in model.named_modules():
                if id(part) not in seen:
                    seen.add(id(part))
                    self._look_at(name, part, trained)

    def _look_at(self, name: str, part: nn.Module, trained: set[int]) -> None:
        attributes = vars(part)
        for key in [one for one in attributes if one == FLAG or _is_misspelled(one)]:
            if isinstance(attributes[key], bool):
                self._note_module(name, part, key, attributes[key], trained)
        for parameter in part.parameters(recurse=False):
            for key in [one for one in vars(parameter) if _is_misspelled(one)]:
                value = vars(parameter)[key]
                if isinstance(value, bool) and _contradicts(value, [parameter], trained):
                    self._note(key, value, False, "", [parameter], None)

    def _note_module(self, name: str, part: nn.Module, key: str, value: bool, trained: set[int]) -> None:
        kind = type(part)
        is_own = any(key in vars(one) for one in kind.__mro__ if one is not nn.Module) or kind in self._own
        if is_own or kind in self._read:
            return
        parameters = list(part.parameters())
        if parameters and _contradicts(value, parameters, trained):
            setting = self._settings.get(id(part))
            if setting is not None and setting.module() is part:
                location = setting.location
            else:
                location = self._classes.get(kind.__qualname__)
            self._note(key, value, True, name or kind.__name__, parameters, location if key == FLAG else None)

    def _note(
        self,
        key: str,
        value: bool,
        of_module: bool,
        name: str,
        parameters: list[nn.Parameter],
        location: CodeLocation | None,
    ) -> None:
        attempt = self.seen.freezing.setdefault((key, value, of_module, location), FreezeAttempt(key, value, of_module))
        attempt.location = location
        if name and name not in attempt.modules:
            attempt.modules.append(name)
        attempt.parameters.update(map(id, parameters))


def _contradicts(value: bool, parameters: list[nn.Parameter], trained: set[int]) -> bool:
    """Return whether all parameters do the opposite of what the loop asked for."""
    if value:
        return not any(one.requires_grad for one in parameters)
    return all(one.requires_grad for one in parameters) and not trained.isdisjoint(map(id, parameters))


def _is_misspelled(name: str) -> bool:
    if name == FLAG or name[:2].lower() != "re" or "gr" not in name.lower():
        return False
    plain = name.replace("_", "").lower()
    right = FLAG.replace("_", "")
    longer = plain.startswith(right) and plain[len(right) :] in ("ient", "ients")
    return longer or _edits(plain, right) <= MOST_EDITS


def _edits(one: str, other: str) -> int:
    """Return how many letters must be added, removed or replaced, at most ``MOST_EDITS`` + 1."""
    if abs(len(one) - len(other)) > MOST_EDITS:
        return MOST_EDITS + 1
    row = list(range(len(other) + 1))
    for i, letter in enumerate(one, 1):
        before, row[0] = row[0], i
        for j, wanted in enumerate(other, 1):
            before, row[j] = row[j], min(row[j] + 1, row[j - 1] + 1, before + (letter != wanted))
    return row[-1]


def _frames() -> Iterator[Any]:
    frame = sys._getframe(1)
    while frame is not None:
        yield frame
        frame = frame.f_back  # type: ignore[assignment] # None ends the loop


def _runs_in_method_of(module: nn.Module) -> bool:
    """Return whether the innermost running code outside torch is a method of ``module``."""
    for frame in _frames():
        if not is_internal(frame.f_code.co_filename):
            arguments = frame.f_code.co_varnames[:1]
            return bool(arguments) and frame.f_locals.get(arguments[0]) is module
    return False


def _is_read_by_torch() -> bool:
    """Return whether torch itself reads the flag, as torch.jit.script reads every attribute."""
    return called_from_folder("torch/jit") or called_from_folder("torch/_dynamo")
