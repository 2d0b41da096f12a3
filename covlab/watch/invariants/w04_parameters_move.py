"""W04: a step moves the parameters."""

from covlab.watch.finding import Finding, Findings
from covlab.watch.invariants import Invariant
from covlab.watch.invariants.bounded_memory import ConsecutiveSteps, LongestRuns
from covlab.watch.seen.deferred import value_of
from covlab.watch.seen.events import Step


class ParametersMove(Invariant):
    code = "W04"
    title = "a step moves the parameters"
    rank = 70
    nothing_to_check = "no step with gradients was seen"

    fix_learning_rate = (
        "check where the learning rate is set: an integer division, a warm-up whose first factor is 0, a schedule past "
        "its end"
    )
    fix_warm_up = "start the warm-up at a factor of 1/steps, not 0"
    fix_precision = "check the size of the gradients and the precision of the parameters"

    def __init__(self) -> None:
        super().__init__()
        self.still = LongestRuns()

    def on_step(self, step: Step) -> None:
        moved = value_of(step.tensors_moved)
        if not step.ran or moved is None:
            return
        self.checked += 1
        if moved:
            self.still.interrupt(step.optimizer)
        else:
            self.still.extend(step, can_continue=step.compared_every_element)

    def find(self) -> Findings:
        return map(self._judge, self.still.all())

    def _judge(self, run: ConsecutiveSteps) -> Finding:
        lasting, fix = run.count >= self.steps_for_fault, self.fix_precision
        says = f"{run.count} steps in a row moved no parameter; the learning rate was "
        if run.largest_learning_rate:
            says += f"up to {run.largest_learning_rate:.3g}"
        else:
            says += "0"
            fix = self.fix_learning_rate if lasting else self.fix_warm_up
            if not lasting and run.first == 1:
                says = (
                    f"the learning rate was 0 at the start, as in a warm-up from zero: {run.count} steps moved nothing"
                )
        return self.found(run, "fault" if lasting else "note", says, fix, number=run.count)
