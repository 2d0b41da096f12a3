"""Observe backwards: what their loss is made of, and which optimizers' parameters they reach."""

from collections.abc import Callable, Sequence
from typing import Any

import torch
from torch import Tensor

from covlab.watch.seen import graph
from covlab.watch.seen.events import Backward
from covlab.watch.seen.gradients import GradientObserver
from covlab.watch.seen.isolation import backward_is_compiled
from covlab.watch.seen.location import caller_location
from covlab.watch.seen.loss_observer import LossObserver
from covlab.watch.seen.optimizer import CLOSELY_WATCHED_STEPS, LIGHT_MEASURES_ONE_IN, WatchedOptimizer
from covlab.watch.seen.recorder import Function, Recorder

ATTEMPTS_BEFORE_A_LOOK = (1, 9, 29)  # all leaves of the graph are looked at in the windows after so many steps
BACKWARDS_LOOKED_AT = 4  # of such a window

Tensors = Tensor | Sequence[Tensor]


class BackwardObserver:
    """Observe ``torch.autograd.backward``. Call ``stop`` if torch would compile the hooks into it."""

    def __init__(self, recorder: Recorder, gradients: GradientObserver, stop: Callable[[], None]) -> None:
        self.recorder, self.seen = recorder, recorder.observation
        self.gradients, self.stop = gradients, stop
        self.losses = LossObserver(recorder)

    def wrap_backward(self, original: Function) -> Function:
        seen, recorder = self.seen, self.recorder

        def backward(tensors: Tensors, *args: Any, **kwargs: Any) -> Any:
            if (
                torch.compiler.is_compiling()
                or not recorder.is_watching(is_backward=True)
                or recorder.backward_running is not None
            ):
                return original(tensors, *args, **kwargs)
            if backward_is_compiled():
                seen.blocked = "backwards are compiled with every hook in them (compiled autograd)"
                self.stop()
                return original(tensors, *args, **kwargs)
            recorder.guard("optimizer", recorder.before_backward)
            seen.counts["backwards"] += 1
            record = recorder.backward_running = Backward(seen.counts["backwards"], None)
            removals = recorder.guard("backward", self._before, record, tensors) or []
            try:
                result = original(tensors, *args, **kwargs)
            finally:
                recorder.backward_running = None
                recorder.guard("backward", self._after, record, removals)
            recorder.limit.worked("backward")
            return result

        return backward

    def _before(self, record: Backward, tensors: Tensors) -> list[Callable[[], None]]:
        """Place hooks on the graph and return the functions that remove them."""
        record.location, record.steps_before = caller_location(), self.seen.counts["steps"]
        self.seen.runs_since_backward.clear()
        reads = self.recorder.reads
        for watched in self.seen.optimizers.values():
            watched.reached = False
            self.gradients.note_cleared_by_hand(watched)
            if watched.backwards and watched.stepped_since_clearing and watched.reused_gradient_size is None:
                watched.reused_gradient_size = watched.gradient_size(reads)
        roots = [tensors] if isinstance(tensors, Tensor) else tensors
        if len(roots) != 1:
            return []
        root = roots[0]
        self.recorder.guard("loss", self.losses.before_backward, record, root)
        self.recorder.guard("look ahead", self.losses.look_ahead, record, root)
        if any(
            watched.attempts in ATTEMPTS_BEFORE_A_LOOK
            and len(watched.backwards) - watched.backwards_stepped < BACKWARDS_LOOKED_AT
            for watched in self.seen.optimizers.values()
        ):
            self.seen.look_for_unregistered_parameters(root, self.recorder.reads)
        if root.numel() == 1 and not root.is_complex():
            record.loss = reads.number(root.detach().clone())
        return graph.read_loss_terms(root, record, reads)

    def _after(self, record: Backward, removals: list[Callable[[], None]]) -> None:
        for remove in removals:
            remove()
        sharded = self.seen.accumulated_in_shards(record.number)
        reached = [watched for watched in self.seen.optimizers.values() if watched.reached or watched in sharded]
        if self.seen.optimizers and not reached:
            self.seen.backwards_without_parameters[record.location] += 1
        record.reached = {watched.number: watched.arrival for watched in reached}
        for watched in reached:
            self._reached(watched, record)
        self.recorder.guard("loss", self.losses.begin)
        self.recorder.flush_if_full()

    def _reached(self, watched: WatchedOptimizer, record: Backward) -> None:
        watched.reached, watched.gradient_pointers, watched.clipped_norm = False, None, None
        if watched.versions_after_backward is None:
            watched.versions_after_backward = watched.parameter_versions()
        watched.backwards.append(record)
        if not watched.attempts:
            watched.note_idle_backward(record.location, self.recorder.reads)
        watched.accumulates |= len(watched.backwards) - watched.backwards_stepped > 1
        watched.gradient_sample, watched.gradient_factors = None, []
        watched.note_gradient_after_backward()
        may_be_scaled_by_hand = watched.accumulates or (
            record.loss_scale is not None and watched.attempts < CLOSELY_WATCHED_STEPS
        )
        if may_be_scaled_by_hand and (not self.seen.light or watched.attempts % LIGHT_MEASURES_ONE_IN == 0):
            watched.sample_gradient()
