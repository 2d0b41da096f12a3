"""W04: a step moves the parameters."""

from covlab.watch.finding import Finding
from covlab.watch.invariants import Invariant
from covlab.watch.invariants.bounded_memory import ConsecutiveSteps, LongestRuns
from covlab.watch.seen.deferred import value_of
from covlab.watch.seen.events import Step
from covlab.watch.seen.observation import Observation


class ParametersMove(Invariant):
    code = "W04"
    title = "a step moves the parameters"
    rank = 70

    fix_learning_rate = (
        "look where the rate is set: a division of integers, a warm-up whose first factor is 0, a schedule past its end"
    )
    fix_warm_up = "let the warm-up's first factor be 1/steps, not 0"
    fix_precision = "look at the gradient's size and at the parameters' precision"

    def __init__(self) -> None:
        self.still = LongestRuns()
        self.steps = 0

    def on_step(self, step: Step) -> None:
        moved = value_of(step.tensors_moved)
        if not step.ran or moved is None:
            return
        self.steps += 1
        if moved:
            self.still.interrupt(step.optimizer)
        else:
            self.still.extend(step, can_continue=step.compared_every_element)

    def finish(self, seen: Observation) -> list[Finding]:
        return [self._judge(run) for run in self.still.all()]

    def _judge(self, run: ConsecutiveSteps) -> Finding:
        rate_was_zero = not run.largest_learning_rate
        lasting = run.count >= self.steps_for_fault
        why = (
            "the learning rate was 0"
            if rate_was_zero
            else f"the learning rate was up to {run.largest_learning_rate:.3g}"
        )
        says = f"{run.count} steps in a row moved no parameter; {why}"
        if not lasting and rate_was_zero and run.first == 1:
            says = f"the first {run.count} steps moved nothing: {why}, as where a warm-up starts at zero"
        fix = self.fix_precision
        if rate_was_zero:
            fix = self.fix_learning_rate if lasting else self.fix_warm_up
        return self.found(run, "fault" if lasting else "note", says, fix, number=run.count)

    def unchecked(self, seen: Observation) -> str | None:
        return None if self.steps else "no step with gradients was seen"
