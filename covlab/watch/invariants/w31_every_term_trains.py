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

    def find(self) -> Findings:
        self.checked = self.seen.losses_read
        for fact in self.seen.loss_facts.values():
            if fact.kind == "constant term" and _is_computed(fact):
                says = (
                    f"a term of the loss needs no gradient, so it changes the loss ({_value(fact):.4g}) and trains "
                    f"nothing; it was made by {', '.join(sorted(REDUCTIONS.intersection(fact.texts)))}"
                )
                at = Occurrences(fact.location, 1, fact.first, fact.last)
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
