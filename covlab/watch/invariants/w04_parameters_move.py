"""W04: a step moves the parameters."""

from covlab.watch.finding import Finding, counted
from covlab.watch.invariants import Findings, Invariant
from covlab.watch.invariants.bounded_memory import ConsecutiveSteps, LongestRuns
from covlab.watch.seen.deferred import value_of
from covlab.watch.seen.events import Step


class ParametersMove(Invariant):
    title = "a step moves the parameters"
    rank = 70
    nothing_to_check = "no step with gradients was seen"

    fix_learning_rate = (
        "check the learning rate: an integer division, a warm-up that starts at 0, a schedule past its end"
    )
    fix_warm_up = "start the warm-up at a factor of 1/steps, not 0"
    fix_precision = "check the size of the gradients and the precision of the parameters"

    def __init__(self) -> None:
        super().__init__()
        self.still = LongestRuns()

    def on_step(self, step: Step) -> None:
        moved = value_of(step.tensors_moved) if step.ran else None
        self.checked += moved is not None
        self.still.add(step, moved, can_continue=step.compared_every_element)

    def find(self) -> Findings:
        return map(self._judge, self.still.all())

    def _judge(self, run: ConsecutiveSteps) -> Finding:
        lasting, fix = run.count >= self.steps_for_fault, self.fix_precision
        says = f"no parameter moved for {counted(run.count, 'step')}; the learning rate was "
        if run.largest_learning_rate:
            says += f"up to {run.largest_learning_rate:.3g}"
        else:
            says += "0"
            fix = self.fix_learning_rate if lasting else self.fix_warm_up
            if not lasting and run.first == 1:
                says = f"the learning rate was 0 for {counted(run.count, 'step')}, as in a warm-up: no parameter moved"
        return self.found(run, "fault" if lasting else "note", says, fix, number=run.count)
