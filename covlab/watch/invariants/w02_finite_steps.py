"""W02: a step runs if and only if its gradients are finite."""

import math
from typing import ClassVar

from covlab.watch.invariants import Findings, Invariant
from covlab.watch.invariants.bounded_memory import Occurrences, last_backward_location
from covlab.watch.invariants.framework_advice import Action
from covlab.watch.seen.deferred import value_of
from covlab.watch.seen.events import Event, GradientsCleared, Step


class FiniteSteps(Invariant):
    title = "a step runs if and only if its gradients are finite"
    rank = 60
    fault_stays = True
    consequences = ("W04", "W10")
    needs = ("gradient size",)
    nothing_to_check = "no step with gradients was seen"

    meaning = """
        A gradient that is NaN or infinite destroys the parameters in one step, and every later loss is NaN. So a step
        should run if its gradients are finite, and be skipped if they are not. Skipping finite steps is a bug as well:
        data is lost.
    """
    example = """
        import torch

        model = torch.nn.Linear(8, 1)
        optimizer = torch.optim.SGD(model.parameters(), lr=0.01)
        for number in range(20):
            x = torch.randn(16, 8)
            x[0, 0] = float("inf") if number == 5 else 0.0  # one broken sample
            loss = (model(x) - x.sum(1, keepdim=True)).square().mean()
            optimizer.zero_grad()
            loss.backward()
            optimizer.step()
    """
    limits = """
        It looks at the gradients when the step is called. It does not know which operation made the first NaN.
        `--light` measures one step in eight.
    """

    fix_ran = "skip such a step: call scaler.step(optimizer), or step only if the norm of the gradients is finite"
    fix_skipped_needlessly = "skip a step only if a gradient is NaN or infinite"
    fix_not_finite = "find the first operation with a non-finite result: torch.autograd.set_detect_anomaly(True)"
    actions: ClassVar[dict[str, Action]] = {fix_ran: "skip"}

    def __init__(self) -> None:
        super().__init__()
        self.steps = 0
        self.skipped = Occurrences()
        self.skipped_needlessly = Occurrences()
        self.steps_at_latest_skip = 0  # ``self.steps`` when the latest step was skipped
        self.all_skips_scaled = True  # every skipped window had a loss scale

    def on_step(self, step: Step) -> None:
        size = value_of(step.gradient_size)
        self.steps += 1
        self.checked += size is not None
        is_finite = size is not None and math.isfinite(size)
        if step.ran and size is not None and not is_finite:
            self.violations[step.location].add(step.number)
        if not step.ran and is_finite:
            self.skipped_needlessly.add(step.number, step.location)
        elif not step.ran:
            self._skip(step.number, step)

    def on_cleared(self, cleared: GradientsCleared) -> None:
        size = value_of(cleared.gradient_size)
        if size is not None and not math.isfinite(size):
            self.steps += 1
            self.checked += 1
            self._skip(cleared.steps_before + 1, cleared)

    def _skip(self, step_number: int, event: Event) -> None:
        self.skipped.add(step_number)
        self.skipped.location = last_backward_location(event)
        self.steps_at_latest_skip = self.steps
        self.all_skips_scaled &= any(backward.loss_scale is not None for backward in event.backwards)

    def find(self) -> Findings:
        for at in self.violations.values():
            says = "the step ran although a gradient was NaN or infinite"
            yield self.found(at, "fault", says, self.fix_ran, number=math.inf)
        needless, skipped, steps = self.skipped_needlessly.count, self.skipped.count, self.steps
        if needless:
            says = f"{needless} of {steps} steps were skipped although every gradient was finite"
            yield self.found(self.skipped_needlessly, "fault", says, self.fix_skipped_needlessly, number=needless)
        scale_has_settled = self.all_skips_scaled and self.steps_at_latest_skip < 0.6 * steps
        if skipped >= self.steps_for_fault and skipped >= 0.9 * steps:
            says = f"{skipped} of {steps} windows had a NaN or infinite gradient: almost nothing is trained"
            yield self.found(self.skipped, "fault", says, self.fix_not_finite, number=skipped / steps)
        elif skipped > max(2, 0.2 * steps) and not scale_has_settled:
            says = f"{skipped} of {steps} steps were skipped because of a NaN or infinite gradient"
            says += "; perhaps the loss scale is still settling"
            yield self.found(self.skipped, "note", says, self.fix_not_finite, number=skipped / steps)
