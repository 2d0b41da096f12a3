"""W07: every trainable parameter gets a gradient."""

from covlab.watch.finding import Finding, Verdict
from covlab.watch.invariants import Findings, Invariant, first_few
from covlab.watch.invariants.bounded_memory import BoundedDefaultDict, Occurrences
from covlab.watch.seen.events import Step
from covlab.watch.seen.optimizer import WatchedOptimizer


class EveryParameterGetsGradient(Invariant):
    title = "every trainable parameter gets a gradient"
    rank = 90
    consequences = ("W10",)
    needs = ("forward", "model")
    nothing_to_check = "no step was seen"

    fix_cut = "look for detach(), .data, .item(), .tolist(), .numpy() or no_grad() between them and the loss"
    fix_unused = "use them, or set requires_grad=False"
    fix_nothing_reached = (
        "look for detach(), .data, .item(), no_grad(), argmax() or a new tensor between the output and the loss"
    )

    def __init__(self) -> None:
        super().__init__()
        self.steps: dict[int, int] = BoundedDefaultDict(int)  # of each optimizer, those that ran
        self.empty_steps: dict[int, int] = BoundedDefaultDict(int)  # of these, those that found no gradient at all

    def on_step(self, step: Step) -> None:
        self.checked += step.ran
        self.steps[step.optimizer] += step.ran
        self.empty_steps[step.optimizer] += step.ran and step.measured and step.gradient_size is None

    def find(self) -> Findings:
        for watched in self.seen.optimizers.values():
            steps, without = self.steps[watched.number], watched.trainable - watched.with_gradient
            if not steps or not without or not self.seen.counts["backwards"]:
                continue
            if without != watched.trainable:
                yield self._some(watched, without, steps)
            elif self.empty_steps[watched.number]:  # without empty steps, the loop put gradients there by hand
                yield self._none(watched)

    def _some(self, watched: WatchedOptimizer, without: set[int], steps: int) -> Finding:
        """Return the finding about an optimizer some of whose parameters got no gradient."""
        is_cut = bool(without & watched.in_called_modules)
        why = "ran, so something between them and the loss cuts the graph" if is_cut else "were not seen to run"
        says = (
            f"{len(without)} of {len(watched.trainable)} tensors never got a gradient in {steps} steps: "
            f"{first_few(watched.names_of(without))}; their modules {why}"
        )
        verdict: Verdict = "fault" if is_cut else "warning"
        if steps < self.steps_for_fault:
            verdict = "note"
        fix = self.fix_cut if is_cut else self.fix_unused
        return self.found(Occurrences(None, 1, 1, steps), verdict, says, fix, number=len(without))

    def _none(self, watched: WatchedOptimizer) -> Finding:
        """Return the finding about an optimizer whose parameters no backward ever reached."""
        empty, elsewhere = self.empty_steps[watched.number], self.seen.backwards_without_parameters
        says = (
            f"{empty} steps of {watched.name} found no gradient, because no backward reached any of its "
            f"{len(watched.trainable)} tensors: {first_few(watched.names_of(watched.trainable))}"
        )
        location = watched.last_step.location if watched.last_step is not None else None
        if elsewhere:
            says += f"; {elsewhere.total()} backwards ended before any parameter"
            location = elsewhere.most_common(1)[0][0]
        at = Occurrences(location, empty, 1, watched.attempts)
        lasting = empty >= self.steps_for_fault
        return self.found(at, "fault" if lasting else "note", says, self.fix_nothing_reached, number=empty)
