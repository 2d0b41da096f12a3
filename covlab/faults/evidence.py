"""Evidence for a fault: observables, which measure on a run what tells it from an honest one.

An observable is a function of a finished :class:`covlab.training.trainer.Trainer`. Some only read its ledger and
history. Others give a copy of it a window, a poisoned number or a perfect estimate, and measure what the copy does with
it, so the run itself does not change. A value outside the observable's ``clean`` range is evidence of a fault; NaN
means that this run cannot answer the question.
"""

import copy
import math
from collections.abc import Callable
from dataclasses import dataclass
from functools import lru_cache, partial
from pathlib import Path
from statistics import median
from typing import Any

import torch
from torch import Tensor

from covlab.faults.observed_window import (
    ObservedWindow,
    honest_gradient,
    infinite_gradient,
    loss_of_nan,
    observe_window,
    untraced_copy,
)
from covlab.networks.model import Estimate
from covlab.scenes.batch import Batch, concatenate
from covlab.scenes.streams import FreshScenes
from covlab.training import loss as right
from covlab.training.checkpoint import RunFolder
from covlab.training.trainer import Trainer, call_with


@dataclass(frozen=True)
class Observable:
    """A question put to a finished run."""

    name: str
    question: str
    clean: tuple[float, float]  #: the values, ends included, that an honest run gives
    measure: Callable[[Trainer], float]

    def detects(self, value: float) -> bool:
        """Is ``value`` none that an honest run gives? (NaN, no occasion to ask, convicts nobody.)"""
        return not math.isnan(value) and not self.clean[0] <= value <= self.clean[1]


OBSERVABLES: dict[str, Observable] = {}


def observable(
    question: str, clean: tuple[float, float]
) -> Callable[[Callable[[Trainer], float]], Callable[[Trainer], float]]:
    def register(measure: Callable[[Trainer], float]) -> Callable[[Trainer], float]:
        OBSERVABLES[measure.__name__] = Observable(measure.__name__, question, clean, measure)
        return measure

    return register


def examine(run: Trainer) -> dict[str, float]:
    """Every observable's value on a finished run."""
    return {name: observable.measure(run) for name, observable in OBSERVABLES.items()}


def detecting(values: dict[str, float]) -> list[str]:
    """The observables that convict, given ``examine``'s values."""
    return [name for name, value in values.items() if OBSERVABLES[name].detects(value)]


# -------------------------------------------------------------------- the window: weights, sums, counts


@observable(
    "A full window's accumulated gradient, over the length of the gradient of the same scenes in one batch",
    (0.98, 1.02),
)
def window_gradient(run: Trainer) -> float:
    return _gradient_ratio(run, _windows(run)[0])


@observable("The same for the short last window of an epoch", (0.98, 1.02))
def short_window(run: Trainer) -> float:
    last = _windows(run)[-1]
    return _gradient_ratio(run, last) if len(last) < run.recipe.accumulation else math.nan


@observable(
    "The cosine between a window's accumulated gradient and that of the same scenes in one batch", (0.999, 1.001)
)
def window_gradient_direction(run: Trainer) -> float:
    window = _windows(run)[0]
    seen, honest = _first_window(run).accumulated, honest_gradient(run, window)
    return (
        torch.cosine_similarity(seen.double(), honest.double(), dim=0).item()
        if seen.any() and honest.isfinite().all()
        else math.nan
    )


@observable(
    "The first window's logged loss over its weighted terms, against the median of all other full windows", (0.97, 1.03)
)
def first_window(run: Trainer) -> float:
    shares = [_logged_over_terms(row) for row in run.ledger.rows if row["micro_batches"] == run.recipe.accumulation]
    shares = [share for share in shares if math.isfinite(share)]
    return shares[0] / median(shares[1:]) if len(shares) > 1 and median(shares[1:]) else math.nan


@observable("The logged loss over the sum of the weighted terms, median over the full windows", (0.99, 1.01))
def logged_over_terms(run: Trainer) -> float:
    shares = [_logged_over_terms(row) for row in run.ledger.rows if row["micro_batches"] == run.recipe.accumulation]
    shares = [share for share in shares if math.isfinite(share)]
    return median(shares) if shares else math.nan


@observable("Windows in the ledger, over windows drawn", (1.0, 1.0))
def windows_logged(run: Trainer) -> float:
    return len(run.ledger.rows) / run.window


@observable("The epochs' train values against the mean over the ledger's rows: the worst difference", (0.0, 1e-5))
def epoch_mean(run: Trainer) -> float:
    worst = 0.0
    for epoch in run.history:
        rows = [row for row in run.ledger.rows if row["epoch"] == epoch["epoch"]]
        mean = (
            sum(row["loss"] * row["scenes"] for row in rows) / sum(row["scenes"] for row in rows) if rows else math.nan
        )
        if math.isnan(mean) and math.isnan(epoch["train"]):
            continue
        worst = max(worst, abs(mean - epoch["train"]) if not math.isnan(mean) else math.inf)
    return worst


@observable("Windows with a finite gradient whose step was skipped all the same, as a share", (0.0, 0.0))
def finite_yet_skipped(run: Trainer) -> float:
    return _share(run, lambda row: math.isfinite(row["gradient_norm"]) and not row["ran"])


@observable("Windows whose gradient was exactly zero, as a share", (0.0, 0.0))
def zero_gradient(run: Trainer) -> float:
    return _share(run, lambda row: row["gradient_norm"] == 0)


@observable(
    "The schedule's count at the end, over the steps that ran and the steps that were skipped by right", (0.99, 1.01)
)
def schedule_per_step(run: Trainer) -> float:
    """Skipped steps are left out on both sides; ``schedule_on_skips`` asks about them."""
    advances = [after["schedule_count"] - row["schedule_count"] for row, after in _neighbours(run) if row["ran"]]
    return sum(advances) / len(advances) if advances else math.nan


@observable("How far the schedule advances on a skipped step", (0.0, 0.0))
def schedule_on_skips(run: Trainer) -> float:
    advances = [after["schedule_count"] - row["schedule_count"] for row, after in _neighbours(run) if not row["ran"]]
    return sum(advances) / len(advances) if advances else math.nan


@observable("The first executed step's length over the second's; 0: it moved nothing", (1e-6, math.inf))
def first_step(run: Trainer) -> float:
    # a long run measures but some
    lengths = [row.get("update_norm", math.nan) for row in run.ledger.rows if row["ran"]]
    return lengths[0] / lengths[1] if len(lengths) > 1 and lengths[1] else math.nan


# -------------------------------------------------------------------- precision: what a poisoned window does


@observable(
    "An infinite gradient is laid into a window: does the step run, with the infinity mended away? (1: yes)", (0.0, 0.0)
)
def hidden_overflow(run: Trainer) -> float:
    seen = _first_window(run, infinite_gradient)
    return float(seen.ran and seen.applied is not None and seen.applied.isfinite().all())


@observable("An infinite gradient is laid into a window: does the step run with it? (1: yes)", (0.0, 0.0))
def overflow_stepped_on(run: Trainer) -> float:
    seen = _first_window(run, infinite_gradient)
    return float(seen.ran and seen.applied is not None and not seen.applied.isfinite().all())


@observable("The same with a loss scale: the scale after that window over the scale before", (0.5, 0.5))
def scale_falls(run: Trainer) -> float:
    if not run.scaler.is_enabled():
        return math.nan
    seen = _first_window(run, infinite_gradient)
    return seen.scale_after / seen.scales[-1] if seen.scales else math.nan


@observable("A loss of NaN is laid into a window: is what is logged a number? (1: yes)", (0.0, 0.0))
def nan_loss_logged(run: Trainer) -> float:
    row = _first_window(run, loss_of_nan).row
    return math.nan if row is None else float(math.isfinite(row["loss"]))


@observable(
    "The length of the gradient that reaches the step, over what the clipping threshold allows of it", (0.97, 1.03)
)
def clip_share(run: Trainer) -> float:
    seen = _first_window(run)
    if seen.applied is None or not seen.accumulated.isfinite().all() or not seen.accumulated.any():
        return math.nan
    allowed = min(seen.accumulated.norm().item(), run.recipe.clip or math.inf)
    return seen.applied.norm().item() / allowed


@observable("Different loss scales within one window", (1, 1))
def scales_in_window(run: Trainer) -> float:
    scales = _first_window(run).scales
    return len(set(scales)) if scales else math.nan


@observable("The NMSE term against the same in double precision: largest difference", (0.0, 1e-5))
def loss_rounding(run: Trainer) -> float:
    """A term that is another term altogether is not a matter of rounding, and gives no answer."""
    batch = _windows(run)[0][0]
    with torch.no_grad():
        estimate = run.estimate(run.model, batch)
        value = run.loss.cov(estimate, batch)
        exact = right.nmse(estimate.covariance().to(torch.complex128), batch.covariance().to(torch.complex128))
    error = (value - exact).abs().max().item()
    return error if error < 0.05 else math.nan


# -------------------------------------------------------------------- loss and weights


@observable("The NMSE term of a perfect estimate", (-1e-3, 1e-3))
def nmse_at_truth(run: Trainer) -> float:
    batch = _windows(run)[0][0]
    return run.loss.cov(_perfect(batch), batch).mean().item()


@observable(
    "What the oracle check calls the floor of the NMSE, less the NMSE term of a perfect estimate", (-1e-3, 1e-3)
)
def oracle_check(run: Trainer) -> float:
    batch = _windows(run)[0][0]
    losses = run.loss.at_truth(run.estimate(run.model, batch), batch)
    return losses.terms["cov"].mean().item() - run.loss.cov(_perfect(batch), batch).mean().item()


@observable("Loss terms that are computed but have no weight, or have a weight and are not computed", (0, 0))
def terms_in_force(run: Trainer) -> float:
    if not run.ledger.rows:
        return math.nan
    computed = {name.removeprefix("term_") for name in run.ledger.rows[0] if name.startswith("term_")}
    return len(computed ^ {name.removeprefix("lam_") for name, weight in run.weights.values().items() if weight > 0})


@observable("A main weight of zero, refused by an exception that python -O keeps? (1: no)", (0.0, 0.0))
def guard_survives(run: Trainer) -> float:
    weights = copy.deepcopy(run.weights)
    object.__setattr__(weights, "lam_cov", 0.0)
    try:
        weights.guard_main_weight()
    except ValueError:
        return 0.0
    except AssertionError:
        return 1.0
    return 1.0


@observable("Loss terms with a finite value and a gradient that is not", (0, 0))
def term_gradients(run: Trainer) -> float:
    batch, count = _windows(run)[0][0], 0
    with torch.no_grad():
        estimate = run.estimate(run.model, batch)
    for name in run.loss.active:
        factor = estimate.factor.clone().requires_grad_()
        value = getattr(run.loss, name)(
            Estimate(factor, estimate.loading, estimate.source_logits, estimate.positions), batch
        ).sum()
        if value.requires_grad and value.isfinite():
            (gradient,) = torch.autograd.grad(value, factor, allow_unused=True)
            count += gradient is not None and not torch.view_as_real(gradient).isfinite().all().item()
    return count


@observable("Loss terms with a weight that are exactly zero in every window", (0, 0))
def dead_terms(run: Trainer) -> float:
    names = [name for name in (run.ledger.rows[0] if run.ledger.rows else {}) if name.startswith("term_")]
    return sum(all(row[name] == 0 for row in run.ledger.rows) for name in names)


# -------------------------------------------------------------------- data and evaluation


@observable("Validation scenes that were trained on, as a share (of runs on fresh scenes)", (0.0, 0.0))
def validation_seen(run: Trainer) -> float:
    if not isinstance(run.scenes, FreshScenes):
        return math.nan
    trained = torch.cat(
        [micro_batch.snr_db for epoch in range(len(run.history)) for micro_batch in run.scenes.micro_batches(epoch)]
    )
    return torch.isin(run.validation.snr_db, trained).double().mean().item()


@observable(
    "How alike a scene's symbols are from snapshot to snapshot: |mean|² over mean of |.|², at 10 dB and above",
    (0.0, 0.5),
)
def symbols_alike(run: Trainer) -> float:
    """The symbols are found by least squares from the snapshots, with the true steering vectors."""
    batch = concatenate([micro_batch for window in _windows(run) for micro_batch in window])
    batch = batch[(batch.snr_db >= 10) & (batch.source_count == 1)]
    if not len(batch):
        return math.nan
    # arrivals [B, L, M] of the first source: G diag(c_l) a, with G from the pooled (codes, H)
    codes, H = (torch.view_as_complex(tensor).flatten(0, 1) for tensor in (batch.codes, batch.H))
    G = torch.linalg.lstsq(codes, H).solution.T
    arrivals = (torch.view_as_complex(batch.codes) * batch.steering[:, None, :, 0]) @ G.T
    y = torch.view_as_complex(batch.y)
    symbols = (arrivals.conj() * y).sum(dim=2) / arrivals.abs().square().sum(dim=2)
    return (symbols.mean(dim=1).abs().square() / symbols.abs().square().mean(dim=1)).mean().item()


@observable("The peak-contrast term of a perfect estimate, median over scenes", (0.0, 0.6))
def contrast_at_truth(run: Trainer) -> float:
    batch = concatenate([micro_batch for window in _windows(run) for micro_batch in window])
    return run.loss.peak_contrast(_perfect(batch), batch).median().item()


@observable("The last validation value over the NMSE of the final estimate on the same scenes", (0.98, 1.02))
def validation_path(run: Trainer) -> float:
    return (
        run.history[-1]["validation"] / _independent_nmse(run, run.validated_parameters()) if run.history else math.nan
    )


@observable("The NMSE of the best checkpoint's network, over the value the checkpoint bears", (0.98, 1.02))
def best_checkpoint(run: Trainer) -> float:
    """Only a run with an average has two networks to confuse."""
    if run.average is None or not run.history:
        return math.nan
    copied, caught = untraced_copy(run), _Catch()
    copied.best, copied.folder = math.inf, caught
    copied.save()
    parameters = {name: caught.kept["model"][name] for name, _ in copied.model.named_parameters()}
    return _independent_nmse(copied, parameters) / caught.kept["validation"]


class _Catch(RunFolder):
    """A run folder that keeps the best checkpoint in memory, and writes nothing."""

    kept: dict[str, Any]

    def __init__(self) -> None:
        super().__init__(Path(), writes=False)

    def save_best(self, state: dict) -> None:
        self.kept = state


# -------------------------------------------------------------------- what they share


def _first_window(run: Trainer, poison: Callable[[Trainer], None] | None = None) -> ObservedWindow:
    """The first epoch's first window, seen once for all observables that ask."""
    return _seen(run, run.window, poison)


@lru_cache(maxsize=4)
def _seen(run: Trainer, window: int, poison: Callable[[Trainer], None] | None) -> ObservedWindow:
    return observe_window(run, _windows(run)[0], poison)


def _gradient_ratio(run: Trainer, window: list[Batch]) -> float:
    seen, honest = observe_window(run, window).accumulated.norm(), honest_gradient(run, window).norm()
    return (seen / honest).item() if honest.isfinite() and honest > 0 else math.nan


def _windows(run: Trainer) -> list[list[Batch]]:
    """The first epoch's windows, cut by covlab's own rule."""
    micro_batches = list(run.scenes.micro_batches(0))
    return [
        micro_batches[start : start + run.recipe.accumulation]
        for start in range(0, len(micro_batches), run.recipe.accumulation)
    ]


def _perfect(batch: Batch) -> Estimate:
    return Estimate(batch.factor(), torch.zeros_like(batch.snr_db))


@torch.no_grad()
def _independent_nmse(run: Trainer, parameters: dict[str, Tensor]) -> float:
    estimate = run.estimate(partial(call_with, run.model, parameters), run.validation)
    return right.nmse(estimate.covariance(), run.validation.covariance()).mean().item()


def _logged_over_terms(row: dict[str, float]) -> float:
    expected = sum(
        row[name] * row.get(f"term_{name.removeprefix('lam_')}", 0.0) for name in row if name.startswith("lam_")
    )
    return row["loss"] / expected if expected else math.nan


def _neighbours(run: Trainer) -> list[tuple[dict, dict]]:
    return list(zip(run.ledger.rows, run.ledger.rows[1:], strict=False))


def _share(run: Trainer, holds: Callable[[dict], bool]) -> float:
    rows = run.ledger.rows
    return sum(map(holds, rows)) / len(rows) if rows else math.nan
