"""W13: no batch statistics under accumulation."""

from collections import Counter

from covlab.watch.invariants import Findings, Invariant
from covlab.watch.invariants.bounded_memory import Occurrences
from covlab.watch.seen.events import Step


class NoBatchStatistics(Invariant):
    title = "no batch statistics under accumulation"
    rank = 180
    needs = ("forward", "model")
    nothing_to_check = "no window had several backwards"

    fix = "use GroupNorm or LayerNorm, or freeze the statistics"

    def __init__(self) -> None:
        super().__init__()
        self.accumulating = Occurrences()
        self.micro_batches = 0
        self.has_batch_norm = False

    def on_step(self, step: Step) -> None:
        most = max(Counter(backward.location for backward in step.backwards).values(), default=0)
        if most > 1:
            used = [forward for forward in step.forwards if forward.training and forward.used_by]
            self.has_batch_norm |= any(forward.has_batch_norm for forward in used)
            self.micro_batches = self.micro_batches or most
            self.checked += 1
            self.accumulating.add(step.number, used[0].location if used else None)

    def find(self) -> Findings:
        if self.has_batch_norm:
            n = self.micro_batches
            says = f"batch normalization sees the {n} micro-batches of a window one by one, never the large batch"
            yield self.found(self.accumulating, "warning", says, number=n)
