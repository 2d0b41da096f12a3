"""Follow models that are evaluated but not trained, such as averages of the parameters of one that is trained."""

import weakref
from collections.abc import Sequence

from torch import Tensor, nn

from covlab.watch.seen.deferred import DeferredNumber
from covlab.watch.seen.location import CodeLocation, calling_lines, is_users
from covlab.watch.seen.models import CalledModel
from covlab.watch.seen.observation import EvaluatedCopy
from covlab.watch.seen.optimizer import ParameterState
from covlab.watch.seen.recorder import Recorder

PARAMETERS_COMPARED = 8
COPIES_FOLLOWED = 64
TRIES = 4  # to find the model that a module is a copy of
LINES_KEPT = 4


class AverageObserver:
    def __init__(self, recorder: Recorder) -> None:
        self.recorder, self.seen = recorder, recorder.observation
        self._copies: weakref.WeakKeyDictionary[nn.Module, EvaluatedCopy] = weakref.WeakKeyDictionary()
        self._trained: weakref.WeakKeyDictionary[nn.Module, int] = weakref.WeakKeyDictionary()  # steps, at the latest
        self._tries: weakref.WeakKeyDictionary[nn.Module, int] = weakref.WeakKeyDictionary()

    def evaluated(self, module: nn.Module, model: CalledModel, trained: bool) -> None:
        """Note a call without gradients."""
        steps = self.seen.counts["steps"]
        if not steps:
            return
        if trained:
            if self._trained.get(module, steps) != steps:
                self.seen.evaluated_while_trained.update(model.parameters)
            self._trained[module] = steps
            return
        copy = self._copies.get(module)
        if copy is None:
            tries = self._tries[module] = self._tries.get(module, 0) + 1
            copy = self._follow(module) if tries <= TRIES and len(self._copies) < COPIES_FOLLOWED else None
            if copy is None:
                return
            self._copies[module] = copy
            self.seen.evaluated_copies.append(copy)
        if copy.latest == steps:
            return
        copy.windows, copy.latest = copy.windows + 1, steps
        if copy.windows & (copy.windows - 1) == 0 or copy.windows % 16 == 3:
            copy.sums = self._sums(copy.own), self._sums(copy.others)
            copy.compared_at = steps

    def _follow(self, module: nn.Module) -> EvaluatedCopy | None:
        """Return a copy to follow, if a model with the same parameters is trained."""
        own = list(module.parameters())
        shapes = [one.shape for one in own]
        held = self.seen.ever_held()
        for other, called in list(self.seen.models.items()):
            if not called.trained:
                continue
            for part in other.modules():
                others = list(part.parameters())
                if len(others) != len(own) or [one.shape for one in others] != shapes:
                    continue
                pairs = [(a, b) for a, b in zip(own, others, strict=True) if b.requires_grad and id(b) in held]
                pairs = pairs[:: max(1, len(pairs) // PARAMETERS_COMPARED)][:PARAMETERS_COMPARED]
                if pairs:
                    copy = EvaluatedCopy(
                        _users_lines(), type(module).__name__, id(pairs[0][1]), self.seen.counts["steps"]
                    )
                    copy.own = [weakref.ref(one) for one, _ in pairs]
                    copy.others = [weakref.ref(one) for _, one in pairs]
                    copy.first_sums = self._sums(copy.own), self._sums(copy.others)
                    copy.latest = -1
                    return copy
        return None

    def _sums(self, tensors: Sequence["weakref.ref[Tensor]"]) -> list[DeferredNumber]:
        followed = [one for reference in tensors if (one := reference()) is not None]
        return [ParameterState.of(one, self.recorder.reads).sum for one in followed]


def _users_lines() -> list[CodeLocation]:
    return [line for line in calling_lines() if is_users(line.file)][:LINES_KEPT]
