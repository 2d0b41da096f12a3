"""Observe what a loop does to its gradients: clearing, clipping, and the replacement of NaN and infinity."""

from collections.abc import Iterable
from typing import Any

import torch
from torch import Tensor, nn

from covlab.watch.seen.clips import ClipObserver
from covlab.watch.seen.events import GradientsCleared, ScaledClip
from covlab.watch.seen.location import CodeLocation, caller_location
from covlab.watch.seen.observation import Replaced, Replacements
from covlab.watch.seen.optimizer import WatchedOptimizer
from covlab.watch.seen.recorder import Function, Recorder

CALLS_KEPT = 1024  # per line: calls that met NaN or infinity, or whose result is not yet read


class GradientObserver:
    def __init__(self, recorder: Recorder) -> None:
        self.recorder, self.seen = recorder, recorder.observation
        self.clips = ClipObserver(recorder)

    # ---------------------------------------------------------------- clearing

    def before_module_zero_grad(self, module: nn.Module, *_: object, **__: object) -> None:
        location, held = caller_location(), set(map(id, module.parameters()))
        for watched in self.seen.optimizers.values():
            if not held.isdisjoint(map(id, watched.parameters())):
                self.cleared(watched, location)

    def before_optimizer_zero_grad(self, optimizer: torch.optim.Optimizer, *_: object, **__: object) -> None:
        watched = self.seen.find(optimizer)
        if watched is not None:
            self.cleared(watched, caller_location())

    def note_cleared_by_hand(self, watched: WatchedOptimizer) -> None:
        """Record a clearing if the loop set every gradient to None itself."""
        if (
            watched.backwards
            and not watched.gradients_come_late
            and watched.with_gradient.isdisjoint(map(id, watched.parameters_with_gradient()))
        ):
            self.cleared(watched, None)

    def cleared(self, watched: WatchedOptimizer, location: CodeLocation | None) -> None:
        self._note_lost(watched, location)
        watched.forget_gradients()

    def note_left_at_end(self) -> None:
        """Record the gradients that no step has used when the run ends by itself."""
        for watched in self.seen.optimizers.values():
            if self.recorder.limit.ended is None:
                self._note_lost(watched, None, at_end=True)
            watched.look_at_tensors(self.recorder.reads, is_last=True)

    def _note_lost(self, watched: WatchedOptimizer, location: CodeLocation | None, at_end: bool = False) -> None:
        """Record the backwards since the last step, unless the loop changed the parameters after them itself."""
        lost = [backward for backward in watched.backwards[watched.backwards_stepped :] if not backward.stepped]
        versions = watched.versions_after_backward
        parameters_unchanged = at_end or versions is None or watched.parameter_versions() == versions
        if lost and not watched.skipped_since_clearing and not self.recorder.steps_running and parameters_unchanged:
            numbers = {backward.number for backward in lost}
            for_others = lost[-1].steps_before < self.seen.counts["steps"] or any(
                forward.differentiates_inputs and not numbers.isdisjoint(forward.used_by)
                for forward in self.seen.forwards
            )
            size = watched.gradient_size(self.recorder.reads)
            event = GradientsCleared(watched.number, location, lost, size, watched.attempts, for_others, at_end)
            self.recorder.events.append(event)

    # ---------------------------------------------------------------- clipping

    def wrap_clip(self, original: Function) -> Function:
        recorder = self.recorder

        def clip(parameters: Tensor | Iterable[Tensor], *args: Any, **kwargs: Any) -> Any:
            if torch.compiler.is_compiling() or not recorder.is_watching():
                return original(parameters, *args, **kwargs)
            given = parameters
            parameters = [parameters] if isinstance(parameters, Tensor) else list(parameters)  # generators run once
            clipped = set(map(id, parameters))
            recorder.guard("clip", self._before_clip, clipped)
            limit = args[0] if args else kwargs.get("max_norm", kwargs.get("clip_value"))
            recorder.guard("clipped tensors", self.clips.note, original.__name__, given, parameters, clipped, limit)
            self.clips.running += 1
            try:
                norm = original(parameters, *args, **kwargs)
            finally:
                self.clips.running -= 1
            norm_type = args[1] if len(args) > 1 else kwargs.get("norm_type", 2)
            recorder.guard("clip", self._after_clip, clipped, norm, norm_type)
            return norm

        return clip

    def _before_clip(self, clipped: set[int]) -> None:
        for watched in self.seen.optimizers.values():
            loss_scale = watched.backwards[-1].loss_scale if watched.backwards and not watched.unscaled else None
            if loss_scale is not None and not clipped.isdisjoint(map(id, watched.parameters())):
                watched.clips.append(ScaledClip(caller_location(), loss_scale))
        for watched in self._sampled(clipped):
            watched.compare_gradient_sample(self.recorder.reads)

    def _after_clip(self, clipped: set[int], norm: object, norm_type: object) -> None:
        """Sample the clipped gradients again, and keep their Euclidean norm if clipping returned it."""
        for watched in self._sampled(clipped):
            watched.sample_gradient()
        if isinstance(norm, Tensor) and norm_type == 2:
            for watched in self.seen.optimizers.values():
                if clipped.issuperset(map(id, watched.parameters_with_gradient())):
                    watched.clipped_norm = norm.detach(), watched.gradient_versions()

    def _sampled(self, clipped: set[int]) -> list[WatchedOptimizer]:
        """Return the optimizers whose gradient sample is of a clipped parameter."""
        return [
            watched
            for watched in self.seen.optimizers.values()
            if watched.gradient_sample is not None and id(watched.gradient_sample[0]) in clipped
        ]

    # ---------------------------------------------------------------- replacement of NaN and infinity

    def before_nan_to_num(self, tensor: object, *_: object, **__: object) -> None:
        if not isinstance(tensor, Tensor) or not tensor.is_floating_point():
            return
        replaced = self._what_is(tensor)
        if replaced is None or self.recorder.backward_running is not None:
            return
        entry = self.seen.replacements.setdefault((caller_location(), replaced), Replacements())
        entry.calls += 1
        was_needed = (~torch.isfinite(tensor.detach())).any()
        entry.needed = [number for number in entry.needed if number.value is None or number.value]
        if len(entry.needed) < CALLS_KEPT:
            entry.needed.append(self.recorder.reads.number(was_needed))

    def _what_is(self, tensor: Tensor) -> Replaced | None:
        """Return what role ``tensor`` has in the training; None: no role that matters here."""
        if tensor.requires_grad and tensor.grad_fn is not None:
            if self.recorder.calls_running:
                return "model"
            return "loss" if tensor.numel() == 1 else "losses"
        pointer = tensor.data_ptr()
        are_gradients = [watched.has_gradient_at(pointer) for watched in self.seen.optimizers.values()]
        return "gradient" if any(are_gradients) else None
