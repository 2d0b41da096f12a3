"""Observe the GradScaler: which losses it scales, when it unscales gradients, and which steps it skips."""

import torch
from torch import Tensor

from covlab.watch.seen import graph
from covlab.watch.seen.location import caller_location
from covlab.watch.seen.recorder import Recorder
from covlab.watch.seen.steps import StepObserver


class ScalerObserver:
    def __init__(self, recorder: Recorder, steps: StepObserver) -> None:
        self.recorder, self.seen, self.steps = recorder, recorder.observation, steps

    def after_scale(self, scaler: torch.amp.GradScaler, *_: object, result: object, **__: object) -> None:
        self.seen.scaled_losses["enabled" if scaler.is_enabled() else "disabled"] += 1
        if scaler.is_enabled() and isinstance(result, Tensor) and result.grad_fn is not None:
            scale = scaler._scale
            if scale is not None:
                graph.metadata(result.grad_fn)[graph.LOSS_SCALE] = scale.detach().clone()

    def before_unscale(self, scaler: torch.amp.GradScaler, optimizer: object, *_: object, **__: object) -> None:
        watched = self.seen.find_wrapped(optimizer)
        if watched is not None and scaler.is_enabled():
            watched.note_scaled_clips()
            watched.unscaled = True
            watched.compare_gradient_sample(self.recorder.reads)

    def after_unscale(self, scaler: torch.amp.GradScaler, optimizer: object, *_: object, **__: object) -> None:
        watched = self.seen.find_wrapped(optimizer)
        if watched is not None and watched.gradient_sample is not None:
            watched.sample_gradient()

    def before_step(self, scaler: torch.amp.GradScaler, optimizer: object, *_: object, **__: object) -> None:
        watched = self.seen.find_wrapped(optimizer)
        if watched is not None and scaler.is_enabled():
            watched.attempts_before_scaler_step = watched.attempts

    def after_step(self, scaler: torch.amp.GradScaler, optimizer: object, *_: object, **__: object) -> None:
        """Record a step that the scaler skipped without calling the optimizer."""
        watched = self.seen.find_wrapped(optimizer)
        if watched is None:
            return
        attempts, watched.attempts_before_scaler_step = watched.attempts_before_scaler_step, None
        if watched.attempts == attempts:
            watched.skipped_since_clearing = True
            step = watched.begin_step(caller_location(), list(watched.backwards), self.seen.forwards)
            step.optimizer_called = False
            step.gradient_size = watched.gradient_size(self.recorder.reads)
            self.steps.close(watched, step)
            self.recorder.stepped(watched)

    def before_update(self, *_: object, **__: object) -> None:
        for watched in self.seen.optimizers.values():
            watched.unscaled = False
