"""W18: gradients are cleared between windows."""

from covlab.watch.invariants import Findings, Invariant
from covlab.watch.seen.deferred import value_of
from covlab.watch.seen.events import Step
from covlab.watch.seen.observation import Observation


class GradientsClearedBetweenWindows(Invariant):
    title = "gradients are cleared between windows"
    rank = 110
    needs = ("clear", "gradient size")

    fix = "call optimizer.zero_grad() once per window, before its first backward"

    def on_step(self, step: Step) -> None:
        self.checked += 1
        size = value_of(step.reused_gradient_size)
        if step.reuses_gradients and size is not None and size > 0:
            self.violations[step.location].add(step.number)

    def find(self) -> Findings:
        times = sum(at.count for at in self.violations.values())
        says = f"{times} of {self.checked} steps used gradients again that an earlier step had already used"
        for at in self.violations.values():
            yield self.found(at, "fault" if times > 1 else "note", says, number=times)

    def unchecked(self, seen: Observation) -> str | None:
        return None if self.checked > 1 else "fewer than two steps were seen"
