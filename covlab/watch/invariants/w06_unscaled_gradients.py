"""W06: clipping and steps see unscaled gradients."""

from collections import deque
from statistics import median_high
from typing import ClassVar

from covlab.watch.invariants import Findings, Invariant
from covlab.watch.invariants.bounded_memory import Occurrences, gradient_factor, recent_values
from covlab.watch.invariants.framework_advice import Action
from covlab.watch.seen.deferred import value_of
from covlab.watch.seen.events import Step


class UnscaledGradients(Invariant):
    title = "clipping and steps see unscaled gradients"
    rank = 80
    fault_stays = True
    consequences = ("W12",)
    needs = ("clip", "scaler", "gradient sample")

    meaning = """
        A GradScaler multiplies the loss, so that small float16 gradients survive. Until they are unscaled, gradients
        are thousands of times too long. A clipping threshold then cuts them far too short, and a plain
        `optimizer.step()` makes a huge step.
    """
    example = """
        import torch

        model = torch.nn.Linear(8, 1)
        optimizer = torch.optim.SGD(model.parameters(), lr=0.01)
        scaler = torch.amp.GradScaler("cpu", init_scale=1024.0)
        for _ in range(20):
            x = torch.randn(16, 8)
            loss = (model(x) - x.sum(1, keepdim=True)).square().mean()
            optimizer.zero_grad()
            scaler.scale(loss).backward()
            torch.nn.utils.clip_grad_norm_(model.parameters(), 1.0)  # still multiplied by 1024
            scaler.step(optimizer)
            scaler.update()
    """
    limits = """
        It knows the loss scale of torch.amp.GradScaler and of what is built on it. A scale that the loop multiplies and
        divides by hand is only seen as a weight of the loss (W01).
    """

    fix_step = "call scaler.step(optimizer) and scaler.update() instead of optimizer.step()"
    fix_clipping = "call scaler.unscale_(optimizer) once per step, before clipping"
    actions: ClassVar[dict[str, Action]] = {fix_step: "step scaled", fix_clipping: "clip"}

    def __init__(self) -> None:
        super().__init__()
        self.scales_when_clipped: deque[float] = recent_values()
        self.stepped = Occurrences()
        self.scale_when_stepped = 1.0

    def on_step(self, step: Step) -> None:
        # Count each line once, because clipping functions call each other.
        scales = {clip.location: clip.loss_scale.value for clip in step.scaled_clips}
        for location, scale in scales.items():
            if scale is not None and scale != 1:
                self.violations[location].add(step.number)
                self.scales_when_clipped.append(scale)
        scale, factor = value_of(step.unremoved_loss_scale), gradient_factor(step)
        is_undivided = factor is not None and abs(factor - 1) < 0.5  # the loop did not unscale by hand
        if step.ran and scale is not None and scale != 1 and is_undivided:
            self.stepped.add(step.number)
            self.stepped.location, self.scale_when_stepped = step.location, scale

    def find(self) -> Findings:
        if self.stepped.count:
            scale = self.scale_when_stepped
            says = f"{scale:g} = the loss scale, which was still in the gradients when the step used them"
            yield self.found(self.stepped, "fault", says, self.fix_step, number=scale)
        elif self.violations:
            scale = median_high(self.scales_when_clipped)
            says = f"{scale:g} = the loss scale, left in the clipped gradients: the threshold is {scale:g}× too small"
            for at in self.violations.values():
                yield self.found(at, "fault", says, self.fix_clipping, number=scale)
