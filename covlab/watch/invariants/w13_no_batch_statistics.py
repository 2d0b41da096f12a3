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

    meaning = """
        BatchNorm normalizes each micro-batch by that micro-batch's own mean and variance. Four micro-batches of 8 are
        therefore not the same as one batch of 32, however correctly the gradients are added up.
    """
    example = """
        import torch
        from torch import nn

        model = nn.Sequential(nn.Linear(8, 8), nn.BatchNorm1d(8), nn.Linear(8, 1))
        optimizer = torch.optim.SGD(model.parameters(), lr=0.01)
        for number in range(1, 41):
            x = torch.randn(16, 8)
            loss = (model(x) - x.sum(1, keepdim=True)).square().mean() / 4
            loss.backward()
            if number % 4 == 0:
                optimizer.step()
                optimizer.zero_grad()
    """
    limits = """
        It is a warning at most: many networks train well like this. It cannot know whether your micro-batches are large
        enough.
    """

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
