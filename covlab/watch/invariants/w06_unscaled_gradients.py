"""W06: clipping and steps see unscaled gradients."""

from collections import deque
from statistics import median_high
from typing import ClassVar

from covlab.watch.invariants import Findings, Invariant
from covlab.watch.invariants.bounded_memory import Occurrences, gradient_factor, recent_values
from covlab.watch.invariants.framework_advice import Action
from covlab.watch.seen.deferred import value_of
from covlab.watch.seen.events import Step


class UnscaledGradients(Invariant):
    title = "clipping and steps see unscaled gradients"
    rank = 80
    fault_stays = True
    consequences = ("W12",)
    needs = ("clip", "scaler", "gradient sample")

    fix_step = "call scaler.step(optimizer) and scaler.update() instead of optimizer.step()"
    fix_clipping = "call scaler.unscale_(optimizer) once per step, before clipping"
    actions: ClassVar[dict[str, Action]] = {fix_step: "step scaled", fix_clipping: "clip"}

    def __init__(self) -> None:
        super().__init__()
        self.scales_when_clipped: deque[float] = recent_values()
        self.stepped = Occurrences()
        self.scale_when_stepped = 1.0

    def on_step(self, step: Step) -> None:
        # Count each line once, because clipping functions call each other.
        scales = {clip.location: clip.loss_scale.value for clip in step.scaled_clips}
        for location, scale in scales.items():
            if scale is not None and scale != 1:
                self.violations[location].add(step.number)
                self.scales_when_clipped.append(scale)
        scale, factor = value_of(step.unremoved_loss_scale), gradient_factor(step)
        is_undivided = factor is not None and abs(factor - 1) < 0.5  # the loop did not unscale by hand
        if step.ran and scale is not None and scale != 1 and is_undivided:
            self.stepped.add(step.number)
            self.stepped.location, self.scale_when_stepped = step.location, scale

    def find(self) -> Findings:
        if self.stepped.count:
            scale = self.scale_when_stepped
            says = f"{scale:g} = the loss scale, which was still in the gradients when the step used them"
            yield self.found(self.stepped, "fault", says, self.fix_step, number=scale)
        elif self.violations:
            scale = median_high(self.scales_when_clipped)
            says = f"{scale:g} = the loss scale, left in the clipped gradients: the threshold is {scale:g}× too small"
            for at in self.violations.values():
                yield self.found(at, "fault", says, self.fix_clipping, number=scale)
