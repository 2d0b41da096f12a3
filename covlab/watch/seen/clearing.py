"""Observe where gradients are cleared."""

import torch
from torch import Tensor, nn

from covlab.watch.seen.events import GradientsCleared
from covlab.watch.seen.location import CodeLocation, caller_location
from covlab.watch.seen.optimizer import WatchedOptimizer
from covlab.watch.seen.recorder import Recorder


class ClearingObserver:
    def __init__(self, recorder: Recorder) -> None:
        self.recorder, self.seen = recorder, recorder.observation

    def before_module_zero_grad(self, module: nn.Module, *_: object, **__: object) -> None:
        location, held = caller_location(), {id(parameter) for parameter in module.parameters()}
        for watched in self.seen.optimizers.values():
            if any(id(parameter) in held for parameter in watched.parameters()):
                self.cleared(watched, location)

    def before_optimizer_zero_grad(self, optimizer: torch.optim.Optimizer, *_: object, **__: object) -> None:
        watched = self.seen.find(optimizer)
        if watched is not None:
            self.cleared(watched, caller_location())

    def note_cleared_by_hand(self, watched: WatchedOptimizer) -> None:
        """Notice that no gradient is left of those that were there: the loop set them to None."""
        if watched.backwards and not any(_had_gradient(parameter, watched) for parameter in watched.parameters()):
            self.cleared(watched, None)

    def cleared(self, watched: WatchedOptimizer, location: CodeLocation | None) -> None:
        lost = [backward for backward in watched.backwards if not backward.stepped]
        versions = watched.versions_after_backward
        parameters_unchanged = versions is None or watched.parameter_versions() == versions
        was_stepped = watched.stepped_since_clearing or watched.skipped_since_clearing
        in_closure = self.recorder.steps_running > 0
        if lost and not was_stepped and not in_closure and parameters_unchanged:
            size = watched.gradient_size(self.recorder.reads)
            self.recorder.events.append(GradientsCleared(watched.number, location, lost, size, watched.attempts))
        watched.forget_gradients()


def _had_gradient(parameter: Tensor, watched: WatchedOptimizer) -> bool:
    return parameter.grad is not None and id(parameter) in watched.with_gradient
