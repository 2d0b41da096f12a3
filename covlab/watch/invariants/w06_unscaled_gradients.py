"""W06: clipping and steps see unscaled gradients."""

import math
from collections import deque

from covlab.watch.finding import Finding
from covlab.watch.invariants import Invariant
from covlab.watch.invariants.bounded_memory import Occurrences, OccurrencesByLocation, recent_values
from covlab.watch.invariants.summary import upper_median
from covlab.watch.seen.deferred import value_of
from covlab.watch.seen.events import Step
from covlab.watch.seen.observation import Observation


class UnscaledGradients(Invariant):
    code = "W06"
    title = "clipping and steps see unscaled gradients"
    rank = 80
    consequences = ("W12",)
    needs = ("clip", "scaler")

    fix_step = "call scaler.step(optimizer) and scaler.update() in place of optimizer.step()"
    fix_clipping = "call scaler.unscale_(optimizer) once a step, before clipping"

    def __init__(self) -> None:
        self.clipped = OccurrencesByLocation()
        self.scales_when_clipped: deque[float] = recent_values()
        self.stepped = Occurrences()
        self.scale_when_stepped = 1.0

    def on_step(self, step: Step) -> None:
        for location, number in dict(step.scaled_clips).items():  # PyTorch clips within clipping, loops group by group
            if number.value is not None and number.value != 1:
                self.clipped[location].add(step.number)
                self.scales_when_clipped.append(number.value)
        scale = value_of(step.unremoved_loss_scale)
        if step.ran and scale is not None and scale != 1 and self._kept_their_scale(step):
            self.stepped.add(step.number)
            self.stepped.location, self.scale_when_stepped = step.location, scale

    @staticmethod
    def _kept_their_scale(step: Step) -> bool:
        """Return whether the loop is known not to have divided the gradients by hand."""
        factors = [math.nan if number.value is None else number.value for number in step.gradient_factors]
        return bool(factors) and abs(math.prod(factors) - 1) < 0.5

    def finish(self, seen: Observation) -> list[Finding]:
        if self.stepped.count:
            scale = self.scale_when_stepped
            says = f"{scale:g} = the loss scale that was still in the gradients when the step took them"
            return [self.found(self.stepped, "fault", says, self.fix_step, number=scale)]
        if not self.clipped:
            return []
        scale = upper_median(self.scales_when_clipped)
        says = (
            f"{scale:g} = the loss scale that was still in the gradients: the threshold is {scale:g} times smaller "
            "than meant"
        )
        return [self.found(at, "fault", says, self.fix_clipping, number=scale) for at in self.clipped.values()]
