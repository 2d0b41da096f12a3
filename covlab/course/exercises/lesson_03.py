"""Exercises of lesson 03, the loss terms and their weights."""

import math
from collections.abc import Callable
from typing import TypedDict

import torch
from torch import Tensor

from covlab.course.exercises import Exercise, Mistake
from covlab.course.exercises.case_parts import integer

# ---------------------------------------------------------------- the length of a sum


def _weighted_gradients(generator: torch.Generator) -> tuple[Tensor, Tensor]:
    terms, parameters = integer(generator, 2, 5), integer(generator, 1, 8)
    weights = torch.rand(terms, generator=generator, dtype=torch.float64) + 0.1
    return weights, torch.randn(terms, parameters, generator=generator, dtype=torch.float64)


def _sums(weights: Tensor, gradients: Tensor) -> tuple[float, float]:
    whole = weights @ gradients
    return abs(float(whole.sum())), float(whole.abs().sum())


pull = Exercise(
    id="03.pull",
    law="The gradient of Σ λ_i · term_i is Σ λ_i · g_i, and its length is the length of this sum.",
    draw=_weighted_gradients,
    right=lambda weights, gradients: (weights @ gradients).norm(),
    hints={
        "you add the lengths. That is correct only if all gradients point the same way. Do they?": (
            lambda weights, gradients: (weights * gradients.norm(dim=1)).sum()
        ),
        "this is Pythagoras. It needs gradients at right angles to each other. Are they?": (
            lambda weights, gradients: (weights * gradients.norm(dim=1)).norm()
        ),
        "the weights are missing.": lambda weights, gradients: gradients.sum(dim=0).norm(),
        "you divide the weights by their sum. A loss does not do that.": lambda weights, gradients: (
            weights / weights.sum() @ gradients
        ).norm(),
        "your length is {ratio:.2f}× the correct one: a loss adds its terms and does not average them.": (
            lambda weights, gradients: (weights @ gradients).norm() / len(weights)
        ),
        "you add up the entries of the gradient. How is the length of a vector computed?": Mistake(
            lambda weights, gradients: (weights @ gradients).sum(),
            lambda trial: any(math.isclose(abs(trial.got), each, rel_tol=1e-4) for each in _sums(**trial.arguments)),
        ),
        "this is the square of the length.": lambda weights, gradients: (weights @ gradients).square().sum(),
    },
)

# ---------------------------------------------------------------- a sum that checks its weights

NAMES = ("cov", "cov_pred", "ortho", "gap", "K", "subspace_align", "aux")
TYPOS = ("lambda_cov", "lam_subspace", "lam_covariance", "lam_Cov", "lam_pred", "cov_weight")
Values = dict[str, float]


def _terms_and_weights(generator: torch.Generator) -> tuple[Values, Values]:
    """Draw terms and weights in any order; in half of the cases the name of a weight fits no term."""
    names = [NAMES[number] for number in torch.randperm(len(NAMES), generator=generator)]
    numbers = torch.rand(2 * len(names), generator=generator, dtype=torch.float64).tolist()
    terms = dict(zip(names, (0.5 + number for number in numbers), strict=False))
    weights = {f"lam_{name}": 0.1 + number for name, number in zip(sorted(names), numbers[len(names) :], strict=True)}
    kind, wrong = integer(generator, 0, 3), TYPOS[integer(generator, 0, len(TYPOS) - 1)]
    if kind == 1:
        weights[wrong] = weights.pop(f"lam_{names[0]}")
    elif kind == 2:
        weights[wrong] = 0.0  # off, but its name is still a mistake
    elif kind == 3:
        del weights[f"lam_{names[0]}"]  # a term without a weight is switched off, which is allowed
    return terms, weights


class Outcome(TypedDict):
    """What a call returned or raised. The student reads the keys and values; `raised` is not compared."""

    raised: str
    refused: str
    total: float


def _unknown(terms: Values, weights: Values) -> list[str]:
    return [name for name in weights if name.removeprefix("lam_") not in terms]


def _outcome(total_loss: Callable[[Values, Values], float], terms: Values, weights: Values) -> Outcome:
    """Return the total, or how the weights were refused."""
    try:
        return {"raised": "nothing", "refused": "no", "total": total_loss(terms, weights)}
    except AssertionError:
        return {"raised": "AssertionError", "refused": "by assert", "total": 0.0}
    except (KeyError, ValueError) as error:
        named = any(name.removeprefix("lam_") in str(error) for name in _unknown(terms, weights))
        raised = f"{type(error).__name__}: {error}"
        return {"raised": raised, "refused": "by name" if named else "without the name", "total": 0.0}


def _strict(terms: Values, weights: Values) -> float:
    if unknown := _unknown(terms, weights):
        raise ValueError(f"no term for {unknown}")
    return sum(weight * terms[name.removeprefix("lam_")] for name, weight in weights.items())


def _nameless(terms: Values, weights: Values) -> float:
    if _unknown(terms, weights):
        raise ValueError("wrong weights")
    return _strict(terms, weights)


def _asserting(terms: Values, weights: Values) -> float:
    assert not _unknown(terms, weights), weights
    return _strict(terms, weights)


def _refusing_what_is_off(terms: Values, weights: Values) -> float:
    if {f"lam_{name}" for name in terms} != set(weights):
        raise ValueError(f"weights do not fit the terms: {_unknown(terms, weights)}")
    return _strict(terms, weights)


def _difference(got: Outcome, right: Outcome) -> float:
    if got["refused"] != right["refused"]:
        return math.inf
    return abs(float(got["total"]) - float(right["total"])) / (abs(float(right["total"])) or 1.0)


total_loss = Exercise(
    id="03.total_loss",
    law=(
        "Σ λ_i · term_i over the weights given. A weight that fits no term is refused with a ValueError or KeyError "
        "that names it; a term without a weight is off."
    ),
    draw=_terms_and_weights,
    run=_outcome,
    right=_strict,
    compare=_difference,
    hints={
        "a weight that fits no term silently counts as zero. In some cases, that is the main weight.": (
            lambda terms, weights: sum(weights.get(f"lam_{name}", 0.0) * term for name, term in terms.items())
        ),
        "a term without a weight counts as 1. It should be off.": lambda terms, weights: (
            _strict(terms, weights) + sum(term for name, term in terms.items() if f"lam_{name}" not in weights)
        ),
        "your error does not name the weight. Someone with a typo needs the name in the message.": _nameless,
        "Python drops asserts when it runs with -O. Raise an exception instead.": _asserting,
        "the error names a term without a weight, which is allowed, and not the weight that fits no term.": (
            lambda terms, weights: sum(weights[f"lam_{name}"] * term for name, term in terms.items())
        ),
        "you refuse weights that are fine. The weight of the term `cov` is `lam_cov`: how do the names differ?": (
            lambda terms, weights: sum(weight * terms[name] for name, weight in weights.items())
        ),
        "you refuse a term without a weight, too. Switching a term off is allowed.": _refusing_what_is_off,
        "a misspelled weight of zero passes. It fits no term either, and its value may change tomorrow.": (
            lambda terms, weights: _strict(terms, {name: weight for name, weight in weights.items() if weight})
        ),
    },
)

# ---------------------------------------------------------------- three kinds of zero

silence = Exercise(
    id="03.silence",
    law=(
        "A weight of zero: no value in the log. A satisfied limit: exactly zero in some scenes, above zero in others. "
        "A broken term: exactly zero in every scene, value and gradient."
    ),
    right="broken",
    choices=("switched off", "satisfied", "broken"),
    hints={
        "a term that is switched off is not computed and has no value in the ledger. This one has: 0.": "switched off",
        "each scene has its own limit. Would an untrained network satisfy the limit in all 120 scenes?": "satisfied",
    },
)
