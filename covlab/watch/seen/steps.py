"""Observe the steps of optimizers (gradients, moved parameters) and the calls of learning-rate schedules."""

from functools import wraps
from typing import Any

import torch
from torch import Tensor
from torch.optim import Optimizer, lr_scheduler

from covlab.watch.seen import measurements
from covlab.watch.seen.events import ScheduleCall, Step
from covlab.watch.seen.isolation import hidden_from_warnings, skipped_by_compiler
from covlab.watch.seen.location import CodeLocation, called_from, caller_location, steps_on_stack
from covlab.watch.seen.optimizer import LIGHT_MEASURES_ONE_IN, WatchedOptimizer
from covlab.watch.seen.recorder import Recorder
from covlab.watch.seen.replicas import is_compared

ATTEMPTS_THAT_DESCRIBE_PARAMETERS = (2, 10, 30, 100, 300, 1000, 3000, 10_000)
# More: layers that are unfrozen halfway must be seen although the run ends before the next of those.
ATTEMPTS_AFTER_WHICH_GRADIENTS_ARE_LOOKED_FOR = {
    digits * 10**power for power in range(1, 6) for digits in (1, 1.5, 2, 3, 4, 5, 6, 7, 8, 9)
} | {2}

Arguments = tuple[tuple[Any, ...], dict[str, Any]]


class StepObserver:
    def __init__(self, recorder: Recorder) -> None:
        self.recorder, self.seen = recorder, recorder.observation
        recorder.before_steps.append(("replicas", self._compare_replicas))

    @skipped_by_compiler
    def before_step(self, optimizer: Optimizer, *arguments: Any) -> Arguments | None:
        if not self.recorder.is_watching():
            return None
        if self.recorder.steps_running and steps_on_stack() > 1:  # it may also have ended by an exception
            within = self.seen.find(optimizer)
            if within is not None:
                within.steps_within_another = True
            return None
        self.recorder.steps_running = 1
        return self.recorder.guard("step", self._before, optimizer, *arguments)

    @skipped_by_compiler
    def after_step(self, optimizer: Optimizer, *_: object) -> None:
        if not self.recorder.is_watching() or not self.recorder.steps_running:
            return
        self.recorder.steps_running -= 1
        self.recorder.guard("step", self._after, optimizer)
        watched = self.seen.find(optimizer)
        if watched is not None:
            self.recorder.stepped(watched)

    def before_schedule_step(self, schedule: lr_scheduler.LRScheduler, *args: Any, **kwargs: Any) -> None:
        location, watched = caller_location(), self.seen.find_wrapped(getattr(schedule, "optimizer", None))
        if location is None or watched is None:
            return
        noted = self.seen.schedule(schedule)
        if isinstance(schedule, lr_scheduler.ReduceLROnPlateau):
            backwards = watched.backwards or (watched.last_step.backwards if watched.last_step is not None else [])
            loss = backwards[-1].loss if backwards else None
            metric = args[0] if args else kwargs.get("metrics")
            noted.note_metric(schedule, metric, loss, self.recorder.reads)
        noted.note(schedule, args, location, watched.attempts)
        if not called_from(lr_scheduler.__file__):
            watched.schedule_calls.append(ScheduleCall(id(schedule), location))

    def close(self, watched: WatchedOptimizer, step: Step) -> None:
        """Record a finished step."""
        for backward in watched.backwards:
            backward.stepped = step.optimizer_called
        self.seen.forwards.clear()
        self.seen.counts["steps"] += 1
        if step.optimizer_called:
            for backward in watched.backwards:
                backward.stepped_at.setdefault(watched.number, self.seen.counts["steps"])
        self.seen.counts["optimizers"] += step.number == 1
        watched.last_step = step
        self.recorder.events.append(step)
        self.recorder.flush_if_full()

    # ---------------------------------------------------------------- before

    def _before(self, optimizer: Optimizer, args: tuple[Any, ...], kwargs: dict[str, Any]) -> Arguments | None:
        watched = self.seen.adopt(optimizer)
        if watched is None:
            return None
        watched.open_step, location = None, caller_location()
        closure = args[1] if len(args) > 1 else kwargs.get("closure")
        if not callable(closure):
            self._open(optimizer, watched, location, uses_closure=False)
            return None

        @hidden_from_warnings
        @wraps(closure)
        def opened(*inner: Any, **named: Any) -> Any:
            result = closure(*inner, **named)
            if watched.open_step is None:
                self.recorder.guard("step", self._open, optimizer, watched, location, uses_closure=True)
            return result

        if len(args) > 1:
            return (args[0], opened, *args[2:]), kwargs
        return args, {**kwargs, "closure": opened}

    def _open(
        self, optimizer: Optimizer, watched: WatchedOptimizer, location: CodeLocation | None, uses_closure: bool
    ) -> None:
        """Record the state before the optimizer's step, now that the gradients are complete."""
        scales_itself = getattr(optimizer, "grad_scale", None) is not None
        if scales_itself:
            watched.note_scaled_clips()
        step = watched.begin_step(location, watched.backwards[watched.backwards_stepped :], self.seen.forwards)
        watched.open_step, step.uses_closure = step, uses_closure
        self._read_options(optimizer, step)
        in_scaler_step = watched.attempts_before_scaler_step is not None
        if step.backwards and not (watched.unscaled or in_scaler_step or scales_itself):
            step.unremoved_loss_scale = step.backwards[-1].loss_scale
        self._note_changed_gradients(watched, step)
        step.measured = not self.seen.light or watched.attempts % LIGHT_MEASURES_ONE_IN == 1
        watched.look_at_tensors(self.recorder.reads)
        if step.measured:
            self._measure(watched, step)
        self.seen.leave_calls()
        watched.end_cut_search()
        if watched.attempts in ATTEMPTS_AFTER_WHICH_GRADIENTS_ARE_LOOKED_FOR:
            self.seen.look_for_parameters_in_no_optimizer()
        if watched.attempts in ATTEMPTS_THAT_DESCRIBE_PARAMETERS:
            self.seen.describe_parameters(watched)
            watched.note_states(self.recorder.reads)
        for part, look in self.recorder.before_steps:
            self.recorder.guard(part, look, watched, step)

    def _compare_replicas(self, watched: WatchedOptimizer, step: Step) -> None:
        if is_compared(step.number):
            models = list(self.seen.models)
            self.seen.replicas.before_step(watched, step.number, models, self.recorder.reads)

    def _read_options(self, optimizer: Optimizer, step: Step) -> None:
        reads = self.recorder.reads
        rates = [group["lr"] for group in getattr(optimizer, "param_groups", ()) if "lr" in group]
        step.learning_rates = [reads.number(rate.clone()) if isinstance(rate, Tensor) else rate for rate in rates]
        found_inf = getattr(optimizer, "found_inf", None)
        step.found_inf = reads.number(found_inf.detach().clone()) if isinstance(found_inf, Tensor) else None

    def _note_changed_gradients(self, watched: WatchedOptimizer, step: Step) -> None:
        """Record what was done to the gradients since the last backward."""
        step.reuses_gradients = watched.stepped_since_clearing and bool(watched.backwards)
        step.reused_gradient_size = watched.reused_gradient_size
        if not step.uses_closure and watched.has_stepped_gradients():
            step.repeated_gradient_size = watched.gradient_size(self.recorder.reads)
        watched.compare_gradient_sample(self.recorder.reads)
        step.gradient_factors, watched.gradient_factors = watched.gradient_factors, []
        watched.gradient_sample = None
        step.gradients_assigned = watched.has_assigned_gradients()
        watched.has_hooks = any(parameter._backward_hooks for parameter in watched.parameters())
        step.has_gradient_hooks = watched.has_hooks

    def _measure(self, watched: WatchedOptimizer, step: Step) -> None:
        reads = self.recorder.reads
        step.gradient_norm = watched.gradient_norm(reads)
        step.gradient_size = watched.gradient_size(reads, step.gradient_norm)
        is_scaled = any(backward.loss_scale for backward in step.backwards)
        if not is_scaled and (
            any(forward.float16 for forward in step.forwards)
            or any(parameter.dtype == torch.float16 for parameter in watched.parameters())
        ):
            zeros, subnormal = measurements.float16_underflow(watched.gradients())
            step.zero_fraction, step.subnormal_fraction = reads.number(zeros), reads.number(subnormal)
        watched.copies_before_step = measurements.copy_samples(watched.parameters_with_gradient())

    # ---------------------------------------------------------------- after

    def _after(self, optimizer: Optimizer) -> None:
        watched = self.seen.find(optimizer)
        step = None if watched is None else watched.open_step
        if watched is None or step is None:  # a closure that was never called
            return
        if watched.copies_before_step:
            step.tensors_moved = self.recorder.reads.number(measurements.count_moved(watched.copies_before_step))
            watched.copies_before_step = []
        watched.stepped_since_clearing = bool(watched.backwards)
        watched.versions_after_backward = watched.reused_gradient_size = watched.open_step = None
        watched.note_stepped_gradients()
        for part, look in self.recorder.after_steps:
            self.recorder.guard(part, look, watched)
        self.close(watched, step)
        del watched.backwards[:-1]  # one is enough to show that there was a backward, and saves memory
        watched.backwards_stepped = len(watched.backwards)
