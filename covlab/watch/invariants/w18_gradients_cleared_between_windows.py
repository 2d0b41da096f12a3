"""W18: gradients are cleared between windows."""

from covlab.watch.finding import Finding, Verdict
from covlab.watch.invariants import Invariant
from covlab.watch.invariants.bounded_memory import OccurrencesByLocation
from covlab.watch.seen.deferred import value_of
from covlab.watch.seen.events import Step
from covlab.watch.seen.observation import Observation


class GradientsClearedBetweenWindows(Invariant):
    code = "W18"
    title = "gradients are cleared between windows"
    rank = 110
    needs = ("clear",)

    fix = "call optimizer.zero_grad() once a window, before its first backward"

    def __init__(self) -> None:
        self.steps = 0
        self.reused = OccurrencesByLocation()

    def on_step(self, step: Step) -> None:
        self.steps += 1
        size = value_of(step.reused_gradient_size)
        if step.reuses_gradients and size is not None and size > 0:
            self.reused[step.location].add(step.number)

    def finish(self, seen: Observation) -> list[Finding]:
        times = sum(at.count for at in self.reused.values())
        says = f"{times} of {self.steps} steps took gradients again that an earlier step had taken already"
        verdict: Verdict = "fault" if times > 1 else "note"
        return [self.found(at, verdict, says, self.fix, number=times) for at in self.reused.values()]

    def unchecked(self, seen: Observation) -> str | None:
        return None if self.steps > 1 else "fewer than two steps were seen"
