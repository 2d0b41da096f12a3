"""W12: half-precision gradients have a scaler."""

from collections import deque

from covlab.watch.finding import Finding, Verdict
from covlab.watch.invariants import Invariant
from covlab.watch.invariants.bounded_memory import Occurrences, recent_values
from covlab.watch.invariants.summary import upper_median
from covlab.watch.seen.deferred import value_of
from covlab.watch.seen.events import Step
from covlab.watch.seen.observation import Observation


class HalfPrecisionIsScaled(Invariant):
    code = "W12"
    title = "half-precision gradients have a scaler"
    rank = 150

    fix = "scale the loss: scaler.scale(loss).backward(), scaler.step(optimizer), scaler.update(); or use bfloat16"

    def __init__(self) -> None:
        self.zero_fractions: deque[float] = recent_values()
        self.subnormal_fractions: deque[float] = recent_values()
        self.unscaled = Occurrences()

    def on_step(self, step: Step) -> None:
        zeros, subnormal = value_of(step.zero_fraction), value_of(step.subnormal_fraction)
        if zeros is None or subnormal is None:
            return
        self.zero_fractions.append(zeros)
        self.subnormal_fractions.append(subnormal)
        location = step.backwards[-1].location if step.backwards else step.location
        self.unscaled.location = self.unscaled.location or location
        self.unscaled.add(step.number)

    def finish(self, seen: Observation) -> list[Finding]:
        steps = len(self.zero_fractions)
        if not steps:
            return []
        zeros, subnormal = upper_median(self.zero_fractions), upper_median(self.subnormal_fractions)
        underflows = zeros > 0.1 and subnormal > 0.5  # underflow leaves few bits to what it does not take to zero
        says = (
            f"float16 and no loss scale: {zeros:.0%} of the gradients' elements are exactly 0, and {subnormal:.0%} of "
            "the others are too small for all their bits"
        )
        verdict: Verdict = "fault" if underflows and steps >= self.steps_for_fault else "note"
        return [self.found(self.unscaled, verdict, says, self.fix, number=zeros)]

    def unchecked(self, seen: Observation) -> str | None:
        return None if self.zero_fractions else "nothing was seen to run in float16 without a loss scale"
