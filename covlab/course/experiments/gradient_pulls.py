"""What the loss weights do: how hard each term pulls, how that changes in training, and what a lost weight looks like.

The network, and the runs, are those of :func:`covlab.faults.small_run.small_run`: student size, seconds, on the CPU.
"""

from dataclasses import dataclass

import torch
from torch import Tensor

from covlab.faults.small_run import finish, small_run
from covlab.plots.loss_terms import Terms
from covlab.scenes.batch import Batch, concatenate
from covlab.training.loss import LossWeights
from covlab.training.trainer import Trainer

DEFAULTS = LossWeights().values()
BLEND = 0.2
"""Share of the sample covariance in the estimate, so that ``lam_cov_pred`` weighs something of its own."""


def terms_of(run: Trainer, batch: Batch) -> Terms:
    """Every term that is switched on in ``run``, and its gradient, unweighted. Parameters stay as they are."""
    values: dict[str, float] = {}
    gradients: list[Tensor] = []
    for name, term in run.losses(batch).terms.items():
        if term.requires_grad:
            pieces = torch.autograd.grad(term.mean(), run.parameters, retain_graph=True, materialize_grads=True)
        else:  # a constant, as a broken term may be
            pieces = tuple(torch.zeros_like(parameter) for parameter in run.parameters)
        values[f"lam_{name}"] = term.mean().item()
        gradients.append(torch.cat([piece.flatten() for piece in pieces]).double())
    rows = torch.stack(gradients)
    return Terms(values, (rows @ rows.T).numpy())


@dataclass(frozen=True)
class TermsAtWindow:
    """A training run at one moment."""

    window: int  #: windows trained so far
    terms: Terms  #: all nine, unweighted, on the same 120 scenes every time
    column: float  #: mean length of the columns of the predicted factor


def terms_over_training(seed: int, at: tuple[int, ...] = (0, 2, 5, 10, 20, 40, 80, 120)) -> list[TermsAtWindow]:
    """Train with the default weights, and look at every term ``at`` these windows."""
    # weighs nothing, only looks
    everything = small_run(seed=seed, weights=dict.fromkeys(DEFAULTS, 1.0), windows=1, fresh=True, blend=BLEND)
    batch = concatenate(list(everything.scenes.micro_batches(0)))
    run = small_run(seed=seed, weights=DEFAULTS, windows=max(at), fresh=True, blend=BLEND)

    def measure_terms() -> TermsAtWindow:
        everything.model.load_state_dict(run.model.state_dict())
        with torch.no_grad():
            factor = run.estimate(run.model, batch).prediction.factor
        return TermsAtWindow(
            run.window, terms_of(everything, batch), factor.abs().square().sum(dim=1).sqrt().mean().item()
        )

    return [measure_terms(), *(measure_terms() for _ in run.windows() if run.window in at)]


def trained(*faults: str, seed: int, weights: dict[str, float] = DEFAULTS, windows: int = 120) -> Trainer:
    """A run with the named faults, to its end."""
    return finish(small_run(*faults, seed=seed, weights=weights, windows=windows, fresh=True, blend=BLEND))


def pull_of(name: str, *faults: str, seed: int) -> tuple[float, float]:
    """The term that ``name`` weighs and the length of its gradient, on an untrained network, under the named faults."""
    run = small_run(*faults, seed=seed, weights=DEFAULTS | {name: 1.0}, windows=1, fresh=True, blend=BLEND)
    terms = terms_of(run, concatenate(list(run.scenes.micro_batches(0))))
    number = list(terms.values).index(name)
    return terms.values[name], terms.gram[number, number] ** 0.5
