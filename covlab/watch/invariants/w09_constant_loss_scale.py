"""W09: the loss scale is constant within a window."""

from covlab.watch.finding import Finding
from covlab.watch.invariants import Invariant
from covlab.watch.invariants.bounded_memory import OccurrencesByLocation
from covlab.watch.seen.deferred import value_of
from covlab.watch.seen.events import Step
from covlab.watch.seen.observation import Observation


class ConstantLossScale(Invariant):
    code = "W09"
    title = "the loss scale is constant within a window"
    rank = 120
    needs = ("scaler",)

    fix = "call scaler.update() once a window, after the step"

    def __init__(self) -> None:
        self.windows, self.largest_ratio = 0, 1.0
        self.changed = OccurrencesByLocation()

    def on_step(self, step: Step) -> None:
        scales = [scale for backward in step.backwards if (scale := value_of(backward.loss_scale))]
        self.windows += len(scales) > 1
        if len(set(scales)) > 1:
            self.changed[step.backwards[-1].location].add(step.number)
            self.largest_ratio = max(self.largest_ratio, max(scales) / min(scales))

    def finish(self, seen: Observation) -> list[Finding]:
        says = (
            f"{self.largest_ratio:.4g}: the loss scale changed by this factor between micro-batches of one window, "
            "whose gradients are added"
        )
        return [self.found(at, "fault", says, self.fix, number=self.largest_ratio) for at in self.changed.values()]

    def unchecked(self, seen: Observation) -> str | None:
        return None if self.windows else "no window of several backwards under a GradScaler"
