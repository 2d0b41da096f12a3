"""W21: predictions and targets of a loss have the same shape.

With [B, 1] and [B], PyTorch compares every prediction with every target, and the mean over all pairs is smallest for
a constant. Quantiles, rankings and energy distances compare pairs on purpose.
"""

from covlab.watch.finding import Verdict
from covlab.watch.invariants import Findings, Invariant
from covlab.watch.invariants.bounded_memory import Occurrences
from covlab.watch.seen.loss_graph import LossFact


class LossShapesAgree(Invariant):
    title = "predictions and targets have the same shape"
    rank = 32
    needs = ("backward", "loss")
    fix = "give both the same shape: predictions.squeeze(-1), or targets.unsqueeze(-1)"
    fix_pairs = "nothing, if you want every pair; otherwise give both the same shape, by squeeze(-1) or unsqueeze(-1)"
    nothing_to_check = "no loss was seen whose graph could be read"

    meaning = """
        If predictions have the shape [B, 1] and targets [B], PyTorch compares every prediction with every target, and
        makes [B, B]. The mean over all pairs is smallest for a constant, so the network learns to ignore its input.
    """
    example = """
        import torch
        import torch.nn.functional as F

        model = torch.nn.Linear(8, 1)
        optimizer = torch.optim.SGD(model.parameters(), lr=0.01)
        for _ in range(20):
            x = torch.randn(16, 8)
            loss = F.mse_loss(model(x), x.sum(1))  # [16, 1] and [16]
            optimizer.zero_grad()
            loss.backward()
            optimizer.step()
    """
    limits = """
        Quantiles, rankings and energy distances compare pairs on purpose. Where the watch cannot tell these apart, it
        writes a note. A batch of one sample shows nothing.
    """

    def find(self) -> Findings:
        self.checked = self.seen.losses_read
        for fact in self.seen.loss_facts.values():
            verdict = _verdict(fact)
            if verdict is None:
                continue
            one, other, both, *_ = fact.texts
            if fact.kind == "one shape expands":
                says = f"{fact.name} gets shapes {one} and {other}, and repeats the smaller one: {both}"
            else:
                says = (
                    f"shapes {one} and {other} broadcast to {both}: every prediction is compared with the targets of "
                    "all samples, not only with its own"
                )
            at = Occurrences(fact.location, 1, fact.first)
            yield self.found(at, verdict, says, self.fix if verdict == "fault" else self.fix_pairs, number=None)


def _verdict(fact: LossFact) -> Verdict | None:
    if fact.kind == "one shape expands":
        return "note"
    is_pairwise = bool(fact.texts and fact.texts[-1] == "pairwise")
    if fact.kind == "shapes of a loss":
        return "warning" if is_pairwise else "fault"
    if fact.kind != "shapes of a difference":
        return None
    sums, inputs = set(fact.values()), {tuple(forward.fingerprints) for forward in fact.forwards}
    if len(sums) == 1 and fact.count > 1:  # one set of numbers for all batches, such as a grid, or one batch for all
        return None if len(inputs) > 1 else "warning" if inputs in (set(), {()}) else "fault"
    return "warning" if is_pairwise or fact.count == 1 else "fault"
