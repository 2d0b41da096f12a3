"""W09: the loss scale is constant within a window."""

from covlab.watch.invariants import Findings, Invariant
from covlab.watch.seen.deferred import value_of
from covlab.watch.seen.events import Step


class ConstantLossScale(Invariant):
    title = "the loss scale is constant within a window"
    rank = 120
    fault_stays = True
    needs = ("scaler",)
    nothing_to_check = "no window had several backwards under a GradScaler"

    fix = "call scaler.update() once per window, after the step"

    def __init__(self) -> None:
        super().__init__()
        self.largest_ratio = 1.0

    def on_step(self, step: Step) -> None:
        scales = [scale for backward in step.backwards if (scale := value_of(backward.loss_scale))]
        self.checked += len(scales) > 1
        if len(set(scales)) > 1:
            self.violations[step.backwards[-1].location].add(step.number)
            self.largest_ratio = max(self.largest_ratio, max(scales) / min(scales))

    def find(self) -> Findings:
        ratio = self.largest_ratio
        says = f"{ratio:.4g} = the factor by which the loss scale changed within a window, whose gradients are added up"
        for at in self.violations.values():
            yield self.found(at, "fault", says, number=ratio)
