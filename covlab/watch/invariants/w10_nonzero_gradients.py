"""W10: gradients are not all zero."""

from dataclasses import replace

from covlab.watch.invariants import Findings, Invariant
from covlab.watch.invariants.bounded_memory import LongestRuns
from covlab.watch.seen.deferred import value_of
from covlab.watch.seen.events import Step


class NonzeroGradients(Invariant):
    title = "gradients are not all zero"
    rank = 40
    consequences = ("W04",)
    needs = ("gradient size",)
    nothing_to_check = "no step with gradients was seen"

    fix = "look for a weight of 0, a saturated activation or an underflow between the loss and the parameters"

    def __init__(self) -> None:
        super().__init__()
        self.zero = LongestRuns()

    def on_step(self, step: Step) -> None:
        size = value_of(step.gradient_size)
        self.checked += size is not None
        self.zero.add(step, size)

    def find(self) -> Findings:
        for run in self.zero.all():
            loss = f"; the loss was {run.latest_loss:.4g}" if run.latest_loss is not None else ""
            says = f"every gradient was exactly 0 in {run.count} windows in a row{loss}"
            at = replace(run, location=run.first_backward)
            yield self.found(at, "fault" if run.count >= self.steps_for_fault else "note", says, number=0.0)
