"""Exercises of lesson 03, the loss terms and their weights."""

import math
from collections.abc import Callable
from typing import TypedDict

import torch
from torch import Tensor

from covlab.course.exercises import Exercise, Hint

# ---------------------------------------------------------------- the length of a sum


def _weighted_gradients(generator: torch.Generator) -> tuple[Tensor, Tensor]:
    weights = torch.rand(3, generator=generator, dtype=torch.float64) + 0.1
    return weights, torch.randn(3, 8, generator=generator, dtype=torch.float64)


pull = Exercise(
    id="03.pull",
    law="The gradient of Σ λ_i · term_i is Σ λ_i · g_i, and its length is that of this sum.",
    draw=_weighted_gradients,
    right=lambda weights, gradients: (weights @ gradients).norm(),
    hints=[
        Hint(
            "the lengths are added. Lengths add only where all gradients point the same way; do these?",
            mistake=lambda weights, gradients: (weights * gradients.norm(dim=1)).sum(),
        ),
        Hint(
            "this is Pythagoras, right for gradients at right angles to each other. Are they?",
            mistake=lambda weights, gradients: (weights * gradients.norm(dim=1)).norm(),
        ),
        Hint("the weights are missing.", mistake=lambda weights, gradients: gradients.sum(dim=0).norm()),
        Hint(
            "the weights are taken as shares: divided by their sum. A loss does not do that.",
            mistake=lambda weights, gradients: (weights / weights.sum() @ gradients).norm(),
        ),
        Hint(
            "exactly {ratio:.2f}× the right length: a loss adds its terms, it does not average them.",
            mistake=lambda weights, gradients: (weights @ gradients).norm() / len(weights),
        ),
        Hint(
            "this is the square of the length.", mistake=lambda weights, gradients: (weights @ gradients).square().sum()
        ),
    ],
)

# ---------------------------------------------------------------- a sum that refuses

NAMES = ("cov", "ortho", "gap", "K")


def _terms_and_weights(generator: torch.Generator) -> tuple[dict[str, float], dict[str, float]]:
    """Half of the time, a weight whose name fits no term."""
    numbers = torch.rand(2 * len(NAMES), generator=generator, dtype=torch.float64).tolist()
    terms = dict(zip(NAMES, (0.5 + number for number in numbers), strict=False))
    weights = {f"lam_{name}": 0.1 + number for name, number in zip(NAMES, numbers[len(NAMES) :], strict=True)}
    kind = torch.randint(4, (), generator=generator).item()
    if kind == 1:
        weights["lambda_cov"] = weights.pop("lam_cov")
    elif kind == 2:
        weights["lam_subspace"] = weights.pop("lam_gap")
    elif kind == 3:
        del weights["lam_ortho"]  # a term that nobody weighs is switched off, and that is allowed
    return terms, weights


class Outcome(TypedDict):
    refused: str
    total: float


def _outcome(
    total_loss: Callable[[dict[str, float], dict[str, float]], float],
    terms: dict[str, float],
    weights: dict[str, float],
) -> Outcome:
    """What came back; or that it was refused, and with what."""
    try:
        return {"refused": "no", "total": total_loss(terms, weights)}
    except AssertionError:
        return {"refused": "by assert", "total": 0.0}
    except (KeyError, ValueError) as error:
        unknown = [name for name in weights if name.removeprefix("lam_") not in terms]
        named = any(name.removeprefix("lam_") in str(error) for name in unknown)
        return {"refused": "by name" if named else "without the name", "total": 0.0}


def _strict(terms: dict[str, float], weights: dict[str, float]) -> float:
    for name in weights:
        if name.removeprefix("lam_") not in terms:
            raise ValueError(f"no term for the weight {name}")
    return sum(weight * terms[name.removeprefix("lam_")] for name, weight in weights.items())


def _nameless(terms: dict[str, float], weights: dict[str, float]) -> float:
    if any(name.removeprefix("lam_") not in terms for name in weights):
        raise ValueError("wrong weights")
    return _strict(terms, weights)


def _asserting(terms: dict[str, float], weights: dict[str, float]) -> float:
    assert all(name.removeprefix("lam_") in terms for name in weights), weights
    return _strict(terms, weights)


def _refusing_what_is_off(terms: dict[str, float], weights: dict[str, float]) -> float:
    if {f"lam_{name}" for name in terms} != set(weights):
        unknown = [name for name in weights if name.removeprefix("lam_") not in terms]
        raise ValueError(f"weights do not fit the terms: {unknown}")
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
    hints=[
        Hint(
            (
                "a weight whose name fits no term counts as zero, and nobody hears of it. In some of these cases, it "
                "is the main weight."
            ),
            mistake=lambda terms, weights: sum(weights.get(f"lam_{name}", 0.0) * term for name, term in terms.items()),
        ),
        Hint(
            "a term without a weight counts as 1. It was to be off.",
            mistake=lambda terms, weights: (
                _strict(terms, weights) + sum(term for name, term in terms.items() if f"lam_{name}" not in weights)
            ),
        ),
        Hint(
            "it refuses, and does not say what: whoever misspelt a name wants to read it in the message.",
            mistake=_nameless,
        ),
        Hint("an assert is gone where Python runs with -O; whoever refuses for good raises.", mistake=_asserting),
        Hint(
            (
                "it stops at a term that nobody weighs, which is allowed, and names that one; of the weight that fits "
                "no term it says nothing."
            ),
            mistake=lambda terms, weights: sum(weights[f"lam_{name}"] * term for name, term in terms.items()),
        ),
        Hint(
            "a term that nobody weighs is refused too. Switching a term off is allowed; misspelling it is not.",
            mistake=_refusing_what_is_off,
        ),
    ],
)

# ---------------------------------------------------------------- which silence

silence = Exercise(
    id="03.silence",
    law=(
        "A weight of zero: no value in the log. A satisfied hinge: exactly zero in some scenes, above in others. A "
        "broken term: exactly zero in every scene, value and gradient."
    ),
    right="broken",
    choices=("switched off", "satisfied", "broken"),
    hints=[
        Hint(
            "a term that is switched off is not computed, and has no value in the ledger. This one has: 0.",
            mistake="switched off",
        ),
        Hint(
            (
                "a hinge is satisfied scene by scene. Would it be exactly zero in all 120 scenes, before the network "
                "has learned anything?"
            ),
            mistake="satisfied",
        ),
    ],
)
