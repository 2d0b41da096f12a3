"""W12: half-precision gradients have a scaler."""

from collections import deque
from statistics import median_high
from typing import ClassVar

from covlab.watch.invariants import Findings, Invariant
from covlab.watch.invariants.bounded_memory import Occurrences, last_backward_location, recent_values
from covlab.watch.invariants.framework_advice import Action
from covlab.watch.seen.deferred import value_of
from covlab.watch.seen.events import Step


class HalfPrecisionIsScaled(Invariant):
    title = "half-precision gradients have a scaler"
    rank = 150
    nothing_to_check = "nothing was seen to run in float16 without a loss scale"

    meaning = """
        float16 has no numbers between 0 and about 6e-8, and small gradients are often below that. Without a loss scale
        they become 0, and others lose most of their bits. bfloat16 does not have this problem.
    """
    example = """
        import torch

        model = torch.nn.Linear(8, 1).half()
        optimizer = torch.optim.SGD(model.parameters(), lr=0.01)
        for _ in range(20):
            x = torch.randn(16, 8).half()
            loss = (model(x) - 1).square().mean() * 1e-7
            optimizer.zero_grad()
            loss.backward()  # no GradScaler
            optimizer.step()
    """
    limits = """
        It is a fault only if many gradients are really 0 or nearly so in at least ten steps. Otherwise it is a note.
    """

    fix = "scale the loss: scaler.scale(loss).backward(), scaler.step(optimizer), scaler.update(); or use bfloat16"
    actions: ClassVar[dict[str, Action]] = {fix: "scale"}

    def __init__(self) -> None:
        super().__init__()
        self.zero_fractions: deque[float] = recent_values()
        self.subnormal_fractions: deque[float] = recent_values()
        self.unscaled = Occurrences()

    def on_step(self, step: Step) -> None:
        zeros, subnormal = value_of(step.zero_fraction), value_of(step.subnormal_fraction)
        if zeros is not None and subnormal is not None:
            self.checked += 1
            self.zero_fractions.append(zeros)
            self.subnormal_fractions.append(subnormal)
            self.unscaled.add(step.number, last_backward_location(step))

    def find(self) -> Findings:
        if self.checked:
            zeros, subnormal = median_high(self.zero_fractions), median_high(self.subnormal_fractions)
            # underflow also leaves few bits in the elements that it does not set to zero
            is_fault = zeros > 0.1 and subnormal > 0.5 and len(self.zero_fractions) >= self.steps_for_fault
            says = (
                f"float16 without a loss scale: {zeros:.0%} of the gradients' elements are exactly 0, and "
                f"{subnormal:.0%} of the others are so small that they have lost precision"
            )
            yield self.found(self.unscaled, "fault" if is_fault else "note", says, number=zeros)
