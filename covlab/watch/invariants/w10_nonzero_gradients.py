"""W10: gradients are not all zero."""

from dataclasses import replace

from covlab.watch.finding import Finding
from covlab.watch.invariants import Invariant
from covlab.watch.invariants.bounded_memory import ConsecutiveSteps, LongestRuns
from covlab.watch.seen.deferred import value_of
from covlab.watch.seen.events import Step
from covlab.watch.seen.observation import Observation


class NonzeroGradients(Invariant):
    code = "W10"
    title = "gradients are not all zero"
    rank = 40
    consequences = ("W04",)

    fix = "look for a weight of 0, a saturated activation or an underflow between loss and parameters"

    def __init__(self) -> None:
        self.zero = LongestRuns()
        self.steps = 0

    def on_step(self, step: Step) -> None:
        size = value_of(step.gradient_size)
        if size is None:
            return
        self.steps += 1
        if size:
            self.zero.interrupt(step.optimizer)
        else:
            self.zero.extend(step)

    def finish(self, seen: Observation) -> list[Finding]:
        return [self._judge(run) for run in self.zero.all()]

    def _judge(self, run: ConsecutiveSteps) -> Finding:
        loss = f"; the loss was {run.latest_loss:.4g}" if run.latest_loss is not None else ""
        says = f"every gradient was exactly 0 in {run.count} windows in a row{loss}"
        at = replace(run, location=run.first_backward)
        return self.found(at, "fault" if run.count >= self.steps_for_fault else "note", says, self.fix, number=0.0)

    def unchecked(self, seen: Observation) -> str | None:
        return None if self.steps else "no step with gradients was seen"
