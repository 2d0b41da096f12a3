"""Find optimizers that were made before the watch, and those of classes of their own, by what they can do."""

import gc
import weakref
from collections.abc import Iterator
from typing import Any

import torch
from torch import Tensor, nn

from covlab.watch.seen import measurements
from covlab.watch.seen.gradients import GradientObserver
from covlab.watch.seen.isolation import readable_tensor
from covlab.watch.seen.optimizer import is_optimizer, tensors_of
from covlab.watch.seen.patches import Patches
from covlab.watch.seen.recorder import Function, Recorder
from covlab.watch.seen.steps import StepObserver

SEARCHED_BEFORE_BACKWARDS = (1, 2, 4, 16, 64)  # a search reads the list of all objects: 0.1 s for a million


class OptimizerSearch:
    def __init__(self, recorder: Recorder, steps: StepObserver, gradients: GradientObserver, patches: Patches) -> None:
        self.recorder, self.seen = recorder, recorder.observation
        self.steps, self.gradients, self.patches = steps, gradients, patches
        self._patched: set[type] = set()
        self._sample: tuple[weakref.ref[Tensor], Tensor] | None = None  # of a parameter in no optimizer

    def before_backward(self) -> None:
        number = self.seen.counts["backwards"] + 1
        if number in SEARCHED_BEFORE_BACKWARDS:
            self._search()
        if number & (number - 1) == 0 and not self.seen.counts["steps"]:
            self._note_update_by_hand()

    def _search(self) -> None:
        """Adopt every optimizer that holds a parameter of a called model which no watched optimizer holds."""
        held = set(map(id, self.seen.held_parameters()))
        wanted = {
            id(one)
            for module in list(self.seen.models)
            for one in module.parameters()
            if one.requires_grad and id(one) not in held
        }
        if not wanted:
            return
        candidates = [one for one in gc.get_objects() if is_optimizer(one)]
        for torchs_own in (True, False):
            for optimizer in candidates:
                if isinstance(optimizer, torch.optim.Optimizer) == torchs_own and self.seen.find(optimizer) is None:
                    self._adopt(optimizer, wanted, candidates)

    def _adopt(self, optimizer: Any, wanted: set[int], candidates: list[Any]) -> None:
        tensors = tensors_of(optimizer, [one for one in candidates if one is not optimizer])
        if not wanted.isdisjoint(map(id, tensors)):
            wanted.difference_update(map(id, tensors))
            self.adopt(optimizer)

    def adopt(self, optimizer: Any) -> None:
        """Watch an optimizer, also one of a class that is none of torch's."""
        self.seen.adopt(optimizer)
        kind = type(optimizer)
        if isinstance(optimizer, torch.optim.Optimizer) or kind in self._patched:
            return
        self._patched.add(kind)
        self.patches.method(kind, "step", self._wrap_step)
        clear = self.recorder.around("clear", before=self.gradients.before_optimizer_zero_grad)
        self.patches.method(kind, "zero_grad", clear)

    def _wrap_step(self, original: Function) -> Function:
        recorder, steps = self.recorder, self.steps

        def step(optimizer: Any, *args: Any, **kwargs: Any) -> Any:
            running = recorder.steps_running
            if torch.compiler.is_compiling() or running:
                return original(optimizer, *args, **kwargs)
            changed = steps.before_step(optimizer, (optimizer, *args), kwargs)
            (_, *args_), kwargs = changed or ((optimizer, *args), kwargs)
            try:
                result = original(optimizer, *args_, **kwargs)
            except BaseException:
                recorder.steps_running = running
                raise
            steps.after_step(optimizer, args, kwargs)
            return result

        return step

    def _note_update_by_hand(self) -> None:
        """Compare a trainable parameter with what it was at an earlier backward."""
        if self._sample is not None:
            parameter = readable_tensor(self._sample[0]())
            if parameter is not None:
                moved = measurements.count_moved([(parameter, self._sample[1])])
                self.seen.updated_by_hand.append(self.recorder.reads.number(moved))
            return
        largest = max(self._trainable_parameters(), key=Tensor.numel, default=None)
        copies = [] if largest is None else measurements.copy_samples([largest])
        if largest is not None and copies:
            self._sample = weakref.ref(largest), copies[0][1]

    def _trainable_parameters(self) -> Iterator[nn.Parameter]:
        modules = list(self.seen.models)
        return (one for module in modules for one in module.parameters() if one.requires_grad and one.numel())
