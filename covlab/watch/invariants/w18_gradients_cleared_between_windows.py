"""W18: gradients are cleared between windows."""

from typing import ClassVar

from covlab.watch.finding import Verdict
from covlab.watch.invariants import Findings, Invariant
from covlab.watch.invariants.bounded_memory import OccurrencesByLocation
from covlab.watch.invariants.framework_advice import Action
from covlab.watch.seen.deferred import value_of
from covlab.watch.seen.events import Step
from covlab.watch.seen.observation import Observation


class GradientsClearedBetweenWindows(Invariant):
    title = "gradients are cleared between windows"
    rank = 110
    fault_stays = True
    needs = ("clear", "gradient size")

    meaning = """
        `backward()` adds to the gradients that are there. If nobody clears them after a step, the next step uses the
        old ones again, and then again. The training acts like one with a huge momentum that never forgets.
    """
    example = """
        import torch

        model = torch.nn.Linear(8, 1)
        optimizer = torch.optim.SGD(model.parameters(), lr=0.01)
        for _ in range(20):
            x = torch.randn(16, 8)
            loss = (model(x) - x.sum(1, keepdim=True)).square().mean()
            loss.backward()
            optimizer.step()  # and no optimizer.zero_grad() anywhere
    """
    limits = """
        Gradients that a window adds up on purpose are correct: it asks only whether they are cleared between two steps.
        Parameters of other optimizers are judged with their own steps.
    """

    fix = "call optimizer.zero_grad() once per window, before its first backward"
    fix_twice = "call step() once per window; scaler.step(optimizer) already calls optimizer.step()"
    actions: ClassVar[dict[str, Action]] = {fix_twice: "step once"}

    def __init__(self) -> None:
        super().__init__()
        self.repeated = OccurrencesByLocation()  # steps that took the very gradients of the step before

    def on_step(self, step: Step) -> None:
        self.checked += 1
        repeated = value_of(step.repeated_gradient_size)
        if step.ran and repeated is not None and repeated > 0:
            self.repeated[step.location].add(step.number)
        size = value_of(step.reused_gradient_size)
        if step.reuses_gradients and size is not None and size > 0:
            self.violations[step.location].add(step.number)

    def find(self) -> Findings:
        times = sum(at.count for at in self.violations.values())
        says = f"{times} of {self.checked} steps used gradients again that an earlier step had already used"
        for at in self.violations.values():
            yield self.found(at, "fault" if times > 1 else "note", says, number=times)
        for at in self.repeated.values():
            says = (
                f"{at.count} of {self.checked} steps used the very gradients that the step before had just used, "
                "without a backward between them: each update is made twice"
            )
            verdict: Verdict = "fault" if at.count > 1 else "note"
            yield self.found(at, verdict, says, self.fix_twice, number=at.count)

    def unchecked(self, seen: Observation) -> str | None:
        return None if self.checked > 1 else "fewer than two steps were seen"
