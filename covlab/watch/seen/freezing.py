"""Look for what was meant to freeze or unfreeze parameters, and has no effect: attributes, and a train() of a class."""

import weakref

from torch import nn

from covlab.watch.seen.events import Step
from covlab.watch.seen.frozen_by_method import frozen_by_method
from covlab.watch.seen.observation import FreezeAttempt, NeverFrozen
from covlab.watch.seen.optimizer import WatchedOptimizer
from covlab.watch.seen.recorder import Recorder
from covlab.watch.seen.steps import ATTEMPTS_THAT_DESCRIBE_PARAMETERS

FLAG = "requires_grad"
MOST_EDITS = 2  # between a misspelled name and the right one, without underscores


class FreezingObserver:
    def __init__(self, recorder: Recorder) -> None:
        self.recorder, self.seen = recorder, recorder.observation
        recorder.before_steps.append(("freezing", self._before_step))
        recorder.at_end.append(("freezing", self._look))
        # modules of classes with a train() of their own that were made under the watch, and have not been told a mode
        self._without_mode: weakref.WeakSet[nn.Module] = weakref.WeakSet()

    def note_made(self, module: nn.Module) -> None:
        if type(module).train is not nn.Module.train:
            self._without_mode.add(module)

    def note_mode(self, module: nn.Module, *_: object, **__: object) -> None:
        self._without_mode.discard(module)
        for key in [one for one in self.seen.never_frozen if one[0] == type(module).__name__]:
            del self.seen.never_frozen[key]  # it is called late, perhaps on purpose

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
                    if part in self._without_mode:
                        self._look_at_train(part, trained)

    def _look_at_train(self, part: nn.Module, trained: set[int]) -> None:
        """Find parameters that the module's own train() freezes, and that are trained because nobody calls it."""
        for location, path in frozen_by_method(type(part), "train"):
            frozen: object = part
            for name in filter(None, path.split(".")):
                frozen = getattr(frozen, name, None)
            parameters = list(frozen.parameters()) if isinstance(frozen, nn.Module) else [frozen]
            theirs = [one for one in parameters if isinstance(one, nn.Parameter)]
            if theirs and _contradicts(False, theirs, trained):
                key = type(part).__name__, path
                never = self.seen.never_frozen.setdefault(key, NeverFrozen(*key, location))
                never.parameters.update(map(id, theirs))

    def _look_at(self, name: str, part: nn.Module, trained: set[int]) -> None:
        attributes = vars(part)
        for key in [one for one in attributes if one == FLAG or _is_misspelled(one)]:
            parameters, value = list(part.parameters()), attributes[key]
            is_defined = any(key in vars(kind) for kind in type(part).__mro__)
            if isinstance(value, bool) and not is_defined and _contradicts(value, parameters, trained):
                attempt = self._attempt(key, value, True, parameters)
                attempt.modules.setdefault(name or type(part).__name__)
                attempt.classes.update(kind.__name__ for kind in type(part).__mro__)
        for parameter in part.parameters(recurse=False):
            for key in [one for one in vars(parameter) if _is_misspelled(one)]:
                value = vars(parameter)[key]
                if isinstance(value, bool) and _contradicts(value, [parameter], trained):
                    self._attempt(key, value, False, [parameter])

    def _attempt(self, key: str, value: bool, of_module: bool, parameters: list[nn.Parameter]) -> FreezeAttempt:
        attempt = self.seen.freezing.setdefault((key, value, of_module), FreezeAttempt(key, value, of_module))
        attempt.parameters.update(map(id, parameters))
        return attempt


def _contradicts(value: bool, parameters: list[nn.Parameter], trained: set[int]) -> bool:
    """Return whether all parameters do the opposite of what the loop asked for."""
    if value:
        return bool(parameters) and not any(one.requires_grad for one in parameters)
    return all(one.requires_grad for one in parameters) and not trained.isdisjoint(map(id, parameters))


def _is_misspelled(name: str) -> bool:
    if name == FLAG or name[:2].lower() != "re" or "gr" not in name.lower():
        return False
    plain, right = name.replace("_", "").lower(), FLAG.replace("_", "")
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
