"""Observe a whole training loop; never change what it does.

A *window* is what an optimizer makes one step of: the backwards since its gradients were cleared. Whatever has to
be read from a tensor stays on its device until ``DeferredReads`` reads many numbers at once.
"""

from collections.abc import Callable

import torch
from torch.optim.optimizer import register_optimizer_step_post_hook, register_optimizer_step_pre_hook
from torch.utils.hooks import RemovableHandle

from covlab.watch.seen.backwards import BackwardObserver
from covlab.watch.seen.clearing import ClearingObserver
from covlab.watch.seen.clipping import ClippingObserver
from covlab.watch.seen.events import Event
from covlab.watch.seen.forwards import ForwardObserver
from covlab.watch.seen.patches import Patches, patch_torch
from covlab.watch.seen.recorder import Recorder
from covlab.watch.seen.replacements import ReplacementObserver
from covlab.watch.seen.scaler import ScalerHooks
from covlab.watch.seen.schedules import ScheduleObserver
from covlab.watch.seen.steps import StepObserver


class Observer:
    """The observers of all parts of a loop, and when they start and stop.

    Args:
        receive: gets every event in order, once its numbers have been read.
        light: measure one step in eight, and no inputs.
        steps: raise ``StepLimitReached`` after so many steps of one optimizer; None: never.
    """

    def __init__(self, receive: Callable[[Event], None], light: bool = False, steps: int | None = None) -> None:
        self.recorder = recorder = Recorder(receive, light)
        self.observation = recorder.observation
        self.clearing = ClearingObserver(recorder)
        self.forwards = ForwardObserver(recorder)
        self.backwards = BackwardObserver(recorder, self.clearing, self.stop_watching)
        self.steps = StepObserver(recorder, steps)
        self.scaler = ScalerHooks(recorder, self.steps)
        self.clipping = ClippingObserver(recorder)
        self.schedules = ScheduleObserver(recorder)
        self.replacements = ReplacementObserver(recorder)
        self._patches = Patches()
        self._hooks: list[RemovableHandle] = []

    def start(self) -> None:
        self.recorder.active = True
        patch_torch(self._patches, self)
        self._hooks = [
            register_optimizer_step_pre_hook(self.steps.before_step),
            register_optimizer_step_post_hook(self.steps.after_step),
        ]

    def adopt(self, optimizer: torch.optim.Optimizer) -> None:
        self.observation.adopt(optimizer)

    def stop_watching(self) -> None:
        """Remove every hook and observe nothing from now on."""
        self.recorder.active = False
        for hook in self._hooks:
            hook.remove()
        self._hooks.clear()
        self.forwards.stop()
        for watched in self.observation.optimizers.values():
            watched.stop()

    def stop(self) -> None:
        """Put everything back and hand on the last events."""
        self.stop_watching()
        self._patches.restore()
        self.recorder.flush()
