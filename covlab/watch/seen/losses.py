"""How much the loss of each micro-batch counts in its step."""

from dataclasses import dataclass

from covlab.watch.seen.deferred import value_of
from covlab.watch.seen.events import Backward, LossTerm

TOLERANCE = 2e-3  # half precision represents 1/3 with an error of 5e-4


@dataclass(frozen=True)
class MicroBatchWeight:
    """d(root)/d(loss) of one backward, without the loss scale, as if the loss were a mean."""

    value: float
    certain: bool  #: False: the graph does not show for certain which part is the loss
    reduction: str
    targets: float | None = None  #: how many targets a mean is over, if that is known


def is_close(value: float, other: float) -> bool:
    return abs(value - other) <= TOLERANCE * max(abs(other), 1e-12)


def micro_batch_weight(backward: Backward) -> MicroBatchWeight | None:
    """Return how much the loss counts, or None if the graph does not show it."""
    loss_scale = value_of(backward.loss_scale) if backward.loss_scale is not None else 1.0
    outer = value_of(backward.outer_derivative)
    if not backward.is_weighted_sum or not backward.terms or outer is None or not loss_scale:
        return None
    weights = [_term_weight(term, loss_scale) for term in backward.terms]
    known = [weight for weight in weights if weight is not None]
    if len(known) < len(weights):
        return None
    if len(known) == 1:
        [term] = backward.terms
        certain = term.reduction != "other" and not term.ambiguous
        return MicroBatchWeight(known[0], certain, term.reduction, value_of(term.targets))
    return _weight_of_sum(backward.terms, known, outer / loss_scale)


def _term_weight(term: LossTerm, loss_scale: float) -> float | None:
    if term.derivative.value is None or term.elements.value is None:
        return None
    weight = term.derivative.value * term.elements.value / loss_scale
    for divides, number in term.element_factors:
        if number.value is None:
            return None
        weight = weight / number.value if divides else weight * number.value
    return weight


def _weight_of_sum(terms: list[LossTerm], weights: list[float], outer: float) -> MicroBatchWeight:
    """Return the weight of a loss that is a sum of terms; ``outer`` is d(root)/d(that sum)."""
    lead = max(range(len(weights)), key=lambda index: abs(weights[index]))
    term = terms[lead]
    if term.classes and len(weights) == 2 and terms[1 - lead].reduction == "sum":  # label smoothing
        return MicroBatchWeight(weights[lead] + weights[1 - lead] * term.classes, True, term.reduction)
    if not is_close(outer, 1):
        is_mean = term.reduction == "mean"
        return MicroBatchWeight(outer if is_mean else weights[lead], is_mean, term.reduction, value_of(term.targets))
    return MicroBatchWeight(weights[lead], is_close(weights[lead], 1) and not term.ambiguous, term.reduction)
