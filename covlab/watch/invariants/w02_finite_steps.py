"""W02: a step runs if and only if its gradients are finite."""

import math

from covlab.watch.finding import Finding
from covlab.watch.invariants import Invariant
from covlab.watch.invariants.bounded_memory import Occurrences, OccurrencesByLocation
from covlab.watch.seen.deferred import value_of
from covlab.watch.seen.events import Event, GradientsCleared, Step
from covlab.watch.seen.observation import Observation


class FiniteSteps(Invariant):
    code = "W02"
    title = "a step runs if and only if its gradients are finite"
    rank = 60
    consequences = ("W04", "W10")

    fix_ran = (
        "skip such a step: with a GradScaler, call scaler.step(optimizer); without, step only if the gradient's norm "
        "is finite"
    )
    fix_skipped_needlessly = "let the finiteness of the gradient alone decide whether a step runs"
    fix_not_finite = "find the first operation that is not finite: torch.autograd.set_detect_anomaly(True)"

    def __init__(self) -> None:
        self.steps = self.measured = 0
        self.ran = OccurrencesByLocation()
        self.skipped = Occurrences()
        self.skipped_needlessly = Occurrences()
        self.steps_at_latest_skip = 0  # of all optimizers
        self.all_skips_scaled = True  # was there a loss scale?

    def on_step(self, step: Step) -> None:
        size = value_of(step.gradient_size)
        self.steps += 1
        self.measured += size is not None
        is_finite = size is not None and math.isfinite(size)
        if step.ran and size is not None and not is_finite:
            self.ran[step.location].add(step.number)
        if not step.ran and is_finite:
            self.skipped_needlessly.add(step.number)
            self.skipped_needlessly.location = self.skipped_needlessly.location or step.location
        elif not step.ran:
            self._skip(step.number, step)

    def on_cleared(self, cleared: GradientsCleared) -> None:
        size = value_of(cleared.gradient_size)
        if size is not None and not math.isfinite(size):
            self.steps += 1
            self.measured += 1
            self._skip(cleared.steps_before, cleared)

    def _skip(self, step_number: int, event: Event) -> None:
        self.skipped.add(step_number)
        self.skipped.location = event.backwards[-1].location if event.backwards else event.location
        self.steps_at_latest_skip = self.steps
        self.all_skips_scaled &= any(backward.loss_scale is not None for backward in event.backwards)

    def finish(self, seen: Observation) -> list[Finding]:
        says = "the step ran although a gradient was NaN or infinite"
        ran = [self.found(at, "fault", says, self.fix_ran, number=math.inf) for at in self.ran.values()]
        return [*ran, *self._skipped_needlessly(), *self._skipped()]

    def _skipped_needlessly(self) -> list[Finding]:
        at = self.skipped_needlessly
        if not at.count:
            return []
        says = f"{at.count} of {self.steps} steps were skipped although every gradient was finite when they were"
        return [self.found(at, "fault", says, self.fix_skipped_needlessly, number=at.count)]

    def _skipped(self) -> list[Finding]:
        skipped, steps = self.skipped.count, self.steps
        scale_has_settled = self.all_skips_scaled and self.steps_at_latest_skip < 0.6 * steps
        if skipped >= self.steps_for_fault and skipped >= 0.9 * steps:
            says = f"{skipped} of {steps} windows had a gradient that was NaN or infinite: next to nothing is trained"
            return [self.found(self.skipped, "fault", says, self.fix_not_finite, number=skipped / steps)]
        if skipped > max(2, 0.2 * steps) and not scale_has_settled:
            says = (
                f"{skipped} of {steps} steps were skipped for gradients that are not finite, as where a loss scale "
                "settles"
            )
            return [self.found(self.skipped, "note", says, self.fix_not_finite, number=skipped / steps)]
        return []

    def unchecked(self, seen: Observation) -> str | None:
        return None if self.measured else "no step with gradients was seen"
