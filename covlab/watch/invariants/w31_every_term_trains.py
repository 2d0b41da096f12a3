"""W31: every term of the loss trains something."""

from covlab.watch.invariants import Findings, Invariant
from covlab.watch.invariants.bounded_memory import Occurrences
from covlab.watch.seen.loss_graph import LossFact

REDUCTIONS = {"mean", "sum", "norm", "kl_div", "cross_entropy", "nll_loss", "mse_loss", "l1_loss", "smooth_l1_loss",
              "huber_loss", "binary_cross_entropy", "binary_cross_entropy_with_logits", "cosine_embedding_loss",
              "vector_norm", "dot", "trace"}  # fmt: skip
LOGARITHMS = {"log", "log_", "log2", "log_softmax", "logsigmoid", "xlogy", "entr", "special_xlogy", "special_entr",
              "logsumexp"}  # fmt: skip
DIFFERENCES = {"sub", "sub_", "__rsub__", "rsub", "subtract"}


class EveryTermTrains(Invariant):
    title = "every term of the loss trains something"
    rank = 190
    needs = ("backward", "loss")
    fix = (
        "compute this term from the model's outputs, with gradients: look for the wrong variable, detach(), .data or "
        "no_grad(); if it is meant as a constant, do nothing"
    )
    nothing_to_check = "no loss was seen whose graph could be read"

    meaning = """
        A loss is often a sum of terms. A term without a gradient, because of a wrong variable, a `detach()` or an
        `.item()`, changes the number that you log, and trains nothing.
    """
    example = """
        import torch
        import torch.nn.functional as F

        model = torch.nn.Linear(8, 4)
        optimizer = torch.optim.Adam(model.parameters(), lr=0.01)
        for _ in range(20):
            x = torch.randn(16, 8)
            out = model(x)
            penalty = out.detach().square().mean()  # a constant for the backward
            loss = F.cross_entropy(out, x[:, :4].argmax(1)) + 0.1 * penalty
            optimizer.zero_grad()
            loss.backward()
            optimizer.step()
    """
    limits = """
        It sees terms that are tensors. A number that `.item()` returned leaves no trace in the graph. Constants that
        only shift a loss on purpose, such as an entropy of fixed targets, are accepted.
    """

    def find(self) -> Findings:
        self.checked = self.seen.losses_read
        for fact in self.seen.loss_facts.values():
            if fact.kind == "constant term" and _is_computed(fact):
                says = (
                    f"a term of the loss needs no gradient, so it changes the loss ({_value(fact):.4g}) and trains "
                    f"nothing; it was made by {', '.join(sorted(REDUCTIONS.intersection(fact.texts)))}"
                )
                at = Occurrences(fact.location, 1, fact.first)
                yield self.found(at, "note", says, number=_value(fact))


def _value(fact: LossFact) -> float:
    return next((value for (value,) in fact.values()), 0.0)


def _is_computed(fact: LossFact) -> bool:
    """Return whether a term that is not 0 was computed from data, and is no entropy of something fixed."""
    made_by = set(fact.texts)
    if not made_by & REDUCTIONS or not any(value for (value,) in fact.values()):
        return False
    losses = {name for name in made_by if name.endswith("_loss") or name in ("kl_div", "cross_entropy")}
    return bool(losses or made_by & DIFFERENCES) or not made_by & LOGARITHMS
