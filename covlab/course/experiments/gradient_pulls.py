"""Measure what the loss weights do: the gradient of each term at the start, during training and in a faulty run.

Network and runs are those of :func:`covlab.faults.small_run.small_run`.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from functools import partial
from typing import Annotated

import torch
from torch import Tensor

from covlab.arguments import Count, Index, Seed, checked, one_of
from covlab.faults.small_run import FaultName, finish, small_run
from covlab.plots.loss_terms import Terms
from covlab.scenes.batch import Batch, concatenate
from covlab.training.loss import LossWeights
from covlab.training.trainer import Trainer

DEFAULTS = LossWeights().values()
BLEND = 0.2
"""Share of the sample covariance in the estimate. With a share of 0, ``lam_cov_pred`` would equal ``lam_cov``."""

_run = partial(small_run, fresh=True, blend=BLEND)


@checked
def terms_of(run: Trainer, batch: Batch) -> Terms:
    """Return every unweighted term that is switched on in ``run``, and its gradient. No parameter changes."""
    values: dict[str, float] = {}
    gradients: list[Tensor] = []
    for name, term in run.losses(batch).terms.items():
        pieces: Sequence[Tensor] = [torch.zeros_like(parameter) for parameter in run.parameters]
        if term.requires_grad:  # a broken term may be a constant
            pieces = torch.autograd.grad(term.mean(), run.parameters, retain_graph=True, materialize_grads=True)
        values[f"lam_{name}"] = term.mean().item()
        gradients.append(torch.cat([piece.flatten() for piece in pieces]).double())
    rows = torch.stack(gradients)
    return Terms(values, (rows @ rows.T).numpy())


@dataclass(frozen=True)
class TermsAtWindow:
    """The loss terms of a training run after some windows."""

    window: int  #: windows trained so far
    terms: Terms  #: all nine, unweighted, always on the same 120 scenes
    column: float  #: mean length of the columns of the predicted factor


@checked
def terms_over_training(seed: Seed, at: tuple[Index, ...] = (0, 2, 5, 10, 20, 40, 80, 120)) -> list[TermsAtWindow]:
    """Train with the default weights, and measure every term after each of the windows ``at``."""
    everything = _run(seed=seed, weights=dict.fromkeys(DEFAULTS, 1.0), windows=1)  # has all terms, is never trained
    batch = concatenate(list(everything.scenes.micro_batches(0)))
    run = _run(seed=seed, weights=DEFAULTS, windows=max(at))

    def measure_terms() -> TermsAtWindow:
        everything.model.load_state_dict(run.model.state_dict())
        with torch.no_grad():
            factor = run.estimate(run.model, batch).prediction.factor
        column = factor.abs().square().sum(dim=1).sqrt().mean().item()
        return TermsAtWindow(run.window, terms_of(everything, batch), column)

    return [measure_terms(), *(measure_terms() for _ in run.windows() if run.window in at)]


@checked
def trained(*faults: FaultName, seed: Seed, weights: dict[str, float] = DEFAULTS, windows: Count = 120) -> Trainer:
    """Return a finished run with the named faults."""
    return finish(_run(*faults, seed=seed, weights=weights, windows=windows))


@checked
def pull_of(name: Annotated[str, one_of(DEFAULTS)], *faults: FaultName, seed: Seed) -> tuple[float, float]:
    """Return the term with the weight ``name`` and its gradient's length, for an untrained network with ``faults``."""
    run = _run(*faults, seed=seed, weights=DEFAULTS | {name: 1.0}, windows=1)
    terms = terms_of(run, concatenate(list(run.scenes.micro_batches(0))))
    number = list(terms.values).index(name)
    return terms.values[name], terms.gram[number, number] ** 0.5
