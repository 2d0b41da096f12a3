"""W13: no batch statistics under accumulation."""

from collections import Counter

from covlab.watch.finding import Finding
from covlab.watch.invariants import Invariant
from covlab.watch.invariants.bounded_memory import Occurrences
from covlab.watch.seen.events import Step
from covlab.watch.seen.observation import Observation


class NoBatchStatistics(Invariant):
    code = "W13"
    title = "no batch statistics under accumulation"
    rank = 180
    needs = ("forward",)

    fix = "use GroupNorm or LayerNorm, or freeze the statistics"

    def __init__(self) -> None:
        self.accumulating = Occurrences()
        self.micro_batches = 0
        self.has_batch_norm = False

    def on_step(self, step: Step) -> None:
        most = max(Counter(backward.location for backward in step.backwards).values(), default=0)
        if most <= 1:
            return
        used = [forward for forward in step.forwards if forward.training and forward.used_by]
        self.has_batch_norm |= any(forward.has_batch_norm for forward in used)
        self.micro_batches = self.micro_batches or most
        self.accumulating.location = self.accumulating.location or (used[0].location if used else None)
        self.accumulating.add(step.number)

    def finish(self, seen: Observation) -> list[Finding]:
        if not self.has_batch_norm:
            return []
        says = (
            f"batch normalization takes its statistics of a micro-batch, {self.micro_batches} times a window: not "
            "those of the large batch"
        )
        return [self.found(self.accumulating, "warning", says, self.fix, number=self.micro_batches)]

    def unchecked(self, seen: Observation) -> str | None:
        return None if self.accumulating.count else "no window of several backwards"
