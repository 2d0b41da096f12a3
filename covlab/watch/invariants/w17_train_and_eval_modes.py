"""W17: training runs in training mode, and evaluation in evaluation mode."""

from covlab.watch.finding import Finding
from covlab.watch.invariants import Invariant
from covlab.watch.invariants.bounded_memory import Occurrences, OccurrencesByLocation
from covlab.watch.seen.events import Step
from covlab.watch.seen.observation import Observation


class TrainAndEvalModes(Invariant):
    code = "W17"
    title = "training trains, evaluation evaluates"
    rank = 100
    consequences = ("W16",)
    needs = ("forward",)

    fix_training = "call model.train() before training goes on"
    fix_evaluation = "call model.eval() before evaluating, model.train() after"

    def __init__(self) -> None:
        self.steps = 0
        self.trained_in_evaluation_mode = OccurrencesByLocation()

    def on_step(self, step: Step) -> None:
        self.steps += 1
        own = {backward.number for backward in step.backwards}
        wrong = next(
            (
                forward
                for forward in step.forwards
                if forward.mode_matters and not forward.training and own.intersection(forward.used_by)
            ),
            None,
        )
        if wrong is not None and not any(
            forward.training and forward.used_by and forward.model == wrong.model for forward in step.forwards
        ):
            self.trained_in_evaluation_mode[wrong.location].add(step.number)

    def finish(self, seen: Observation) -> list[Finding]:
        return [*(self._training(at) for at in self.trained_in_evaluation_mode.values()), *self._evaluation(seen)]

    def _training(self, at: Occurrences) -> Finding:
        says = f"{at.count} of {self.steps} steps trained a model with dropout or batch statistics in evaluation mode"
        return self.found(at, "fault" if at.count >= 3 else "note", says, self.fix_training, number=at.count)

    def _evaluation(self, seen: Observation) -> list[Finding]:
        runs = [(run, location) for location, run in seen.longest_run_without_gradient.items() if run >= 3]
        if not runs or seen.counts["evaluation_mode"]:
            return []
        run, location = max(runs, key=lambda entry: entry[0])
        says = (
            f"{run} forwards in a row without gradients, in training mode: dropout or batch statistics take part in "
            "the evaluation"
        )
        return [self.found(location, "warning", says, self.fix_evaluation, number=run, times=run)]

    def unchecked(self, seen: Observation) -> str | None:
        return None if self.steps else "no step was seen"
