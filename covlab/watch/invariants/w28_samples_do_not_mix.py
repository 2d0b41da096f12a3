"""W28: the samples of a batch do not mix."""

from covlab.watch.invariants import Findings, Invariant
from covlab.watch.invariants.bounded_memory import Occurrences
from covlab.watch.seen.loss_graph import LossFact

ROUNDING = 2e-2  # of sums of probabilities in bfloat16


class SamplesDoNotMix(Invariant):
    title = "the samples of a batch do not mix"
    rank = 36
    needs = ("backward", "loss")
    fix = "normalize over the classes: log_softmax(dim=1) for [samples, classes], or dim=-1"
    nothing_to_check = "no loss was seen whose graph could be read"

    def find(self) -> Findings:
        self.checked = self.seen.losses_read
        for fact in self.seen.loss_facts.values():
            if fact.kind == "softmax over samples" and _mixes(fact):
                says = (
                    "the softmax before the loss runs over dim 0, the samples of the batch: each column sums to 1, not "
                    "each row, so every prediction depends on the other samples"
                )
                at = Occurrences(fact.location, 1, fact.first, fact.last)
                yield self.found(at, "fault", says, number=None)


def _mixes(fact: LossFact) -> bool:
    """Return whether rows are not normalized. In a square of similarities, each sample can be its own class."""
    values = list(fact.values())
    return bool(values) and all(off > ROUNDING and not own for off, own in values)
