"""W28: the samples of a batch do not mix."""

from covlab.watch.invariants import Findings, Invariant
from covlab.watch.invariants.bounded_memory import Occurrences
from covlab.watch.seen.loss_graph import LossFact

ROUNDING = 2e-2  # of sums of probabilities in bfloat16


class SamplesDoNotMix(Invariant):
    title = "the samples of a batch do not mix"
    rank = 36
    needs = ("backward", "loss", "look ahead")
    fix = "normalize over the classes: log_softmax(dim=1) for [samples, classes], or dim=-1"
    fix_layout = "make the layer with batch_first=True, or give it [time, samples, features]; nothing, if dim 0 is time"
    nothing_to_check = "no loss was seen whose graph could be read"

    meaning = """
        The result for one sample should not depend on the others in its batch. A softmax over dimension 0, or a
        recurrent layer that takes the batch for time, mixes them: the loss falls, and the network fails on single
        samples.
    """
    example = """
        import torch
        import torch.nn.functional as F

        model = torch.nn.Linear(8, 4)
        optimizer = torch.optim.Adam(model.parameters(), lr=0.01)
        for _ in range(20):
            x = torch.randn(16, 8)
            labels = x[:, :4].argmax(1)
            loss = F.nll_loss(model(x).log_softmax(0), labels)  # over the samples
            optimizer.zero_grad()
            loss.backward()
            optimizer.step()
    """
    limits = """
        Contrastive losses compare samples on purpose, and are accepted. BatchNorm mixes samples as well, which W13 is
        about.
    """

    def find(self) -> Findings:
        self.checked = self.seen.losses_read
        for fact in self.seen.loss_facts.values():
            if fact.kind == "softmax over samples" and _mixes(fact):
                says = (
                    "the softmax before the loss runs over dim 0, the samples of the batch: each column sums to 1, not "
                    "each row, so every prediction depends on the other samples"
                )
                at = Occurrences(fact.location, 1, fact.first)
                yield self.found(at, "fault", says, number=None)
        for location, runs in self.seen.runs_along_samples.items():
            if runs.count >= 3:
                says = (
                    f"{runs.layer} without batch_first runs along dim 0 of {list(runs.shape)}, and the loss has "
                    f"{runs.shape[0]} targets: dim 0 seems to be the samples, so each sees the others"
                )
                at = Occurrences(location, runs.count, runs.first, runs.last)
                yield self.found(at, "warning", says, self.fix_layout, number=runs.count)


def _mixes(fact: LossFact) -> bool:
    """Return whether rows are not normalized. In a square of similarities, each sample can be its own class."""
    values = list(fact.values())
    return bool(values) and all(off > ROUNDING and not own for off, own in values)
