"""Observables: measurements on a finished run that show whether it has a fault.

An observable is a function of a finished :class:`covlab.training.trainer.Trainer`. Some only read its ledger and
history. Others train a copy of the run on one window, perhaps with an infinity or a NaN in it, or score a perfect
estimate; the run itself does not change. A value outside the observable's ``clean`` range is evidence of a fault. NaN
means that this run cannot answer the question.
"""

import copy
import itertools
import math
from collections.abc import Callable, Iterable
from dataclasses import dataclass, replace
from functools import lru_cache, partial
from statistics import fmean, median

import torch
from torch import Tensor

from covlab.arguments import checked
from covlab.faults.observed_window import (
    ObservedWindow,
    honest_gradient,
    infinite_gradient,
    loss_of_nan,
    observe_window,
)
from covlab.networks.model import Estimate
from covlab.scenes.batch import Batch, concatenate
from covlab.scenes.streams import FreshScenes
from covlab.training import loss as correct
from covlab.training.trainer import Trainer, call_with

Measure = Callable[[Trainer], float]


@dataclass(frozen=True)
class Observable:
    """A question about a finished run."""

    name: str
    question: str
    clean: tuple[float, float]  #: the range of a correct run, ends included
    measure: Measure

    def detects(self, value: float) -> bool:
        """Return whether ``value`` is outside the range of a correct run. NaN is not."""
        return not math.isnan(value) and not self.clean[0] <= value <= self.clean[1]


OBSERVABLES: dict[str, Observable] = {}


def observable(question: str, clean: tuple[float, float]) -> Callable[[Measure], Measure]:
    """Register the decorated function as an observable."""

    def register(measure: Measure) -> Measure:
        OBSERVABLES[measure.__name__] = Observable(measure.__name__, question, clean, measure)
        return measure

    return register


@checked
def examine(run: Trainer) -> dict[str, float]:
    """Return every observable's value on a finished run."""
    _first_window.cache_clear()  # the run may have been trained further since
    return {name: observable.measure(run) for name, observable in OBSERVABLES.items()}


def detecting(values: dict[str, float]) -> list[str]:
    """Return the observables that detect a fault, given ``examine``'s values."""
    return [name for name, value in values.items() if OBSERVABLES[name].detects(value)]


# -------------------------------------------------------------------- accumulation: weights, sums, counts


@observable("Length of a full window's gradient, divided by that of the same scenes in one batch", (0.98, 1.02))
def window_gradient(run: Trainer) -> float:
    return _gradient_ratio(run, _windows(run)[0])


@observable("Length of a short last window's gradient, divided by that of the same scenes in one batch", (0.98, 1.02))
def short_window(run: Trainer) -> float:
    last = _windows(run)[-1]
    return _gradient_ratio(run, last) if len(last) < run.recipe.accumulation else math.nan


@observable("Cosine between a full window's gradient and that of the same scenes in one batch", (0.999, 1.001))
def window_gradient_direction(run: Trainer) -> float:
    seen, honest = _first_window(run).accumulated, honest_gradient(run, _windows(run)[0])
    if not seen.any() or not honest.isfinite().all():
        return math.nan
    return torch.cosine_similarity(seen.double(), honest.double(), dim=0).item()


@observable(
    "Logged loss divided by its weighted terms: the first window's, relative to the other full windows", (0.97, 1.03)
)
def first_window(run: Trainer) -> float:
    shares = _logged_over_terms(run)
    others = _average(shares[1:], median)
    return shares[0] / others if shares and others else math.nan


@observable("Logged loss, divided by the sum of its weighted terms: median of the full windows", (0.99, 1.01))
def logged_over_terms(run: Trainer) -> float:
    return _average(_logged_over_terms(run), median)


@observable("Windows in the ledger, divided by windows drawn", (1.0, 1.0))
def windows_logged(run: Trainer) -> float:
    return len(run.ledger.rows) / run.window


@observable("Largest difference between an epoch's train value and the mean over its rows in the ledger", (0.0, 1e-5))
def epoch_mean(run: Trainer) -> float:
    worst = 0.0
    for epoch in run.history:
        rows = [row for row in run.ledger.rows if row["epoch"] == epoch["epoch"]]
        scenes = sum(row["scenes"] for row in rows)
        mean = sum(row["loss"] * row["scenes"] for row in rows) / scenes if rows else math.nan
        if math.isnan(mean) and not math.isnan(epoch["train"]):
            return math.inf
        worst = max(worst, abs(mean - epoch["train"]))  # max keeps ``worst`` if the difference is NaN
    return worst


@observable("Share of windows whose step was skipped although the gradient was finite", (0.0, 0.0))
def finite_yet_skipped(run: Trainer) -> float:
    return _average(math.isfinite(row["gradient_norm"]) and not row["ran"] for row in run.ledger.rows)


@observable("Share of windows whose gradient was exactly zero", (0.0, 0.0))
def zero_gradient(run: Trainer) -> float:
    return _average(row["gradient_norm"] == 0 for row in run.ledger.rows)


@observable("How far the schedule advances on a step that ran", (0.99, 1.01))
def schedule_per_step(run: Trainer) -> float:
    return _average(advance for ran, advance in _schedule(run) if ran)


@observable("How far the schedule advances on a skipped step", (0.0, 0.0))
def schedule_on_skips(run: Trainer) -> float:
    return _average(advance for ran, advance in _schedule(run) if not ran)


@observable("Length of the first step that ran, divided by the second's (0: it changed no parameter)", (1e-6, math.inf))
def first_step(run: Trainer) -> float:
    # a long run measures only some of its updates
    lengths = [row.get("update_norm", math.nan) for row in run.ledger.rows if row["ran"]]
    return lengths[0] / lengths[1] if len(lengths) > 1 and lengths[1] else math.nan


# -------------------------------------------------------------------- precision: windows with an infinity or a NaN


@observable("After an infinite gradient, does the step run, with the infinity replaced? (1: yes)", (0.0, 0.0))
def hidden_overflow(run: Trainer) -> float:
    seen = _first_window(run, infinite_gradient)
    return float(seen.ran and seen.applied.isfinite().all())


@observable("After an infinite gradient, does the step run with the infinity? (1: yes)", (0.0, 0.0))
def overflow_stepped_on(run: Trainer) -> float:
    seen = _first_window(run, infinite_gradient)
    return float(seen.ran and not seen.applied.isfinite().all())


@observable("Loss scale after a window with an infinite gradient, divided by the scale before", (0.5, 0.5))
def scale_falls(run: Trainer) -> float:
    seen = _first_window(run, infinite_gradient)
    return seen.scale_after / seen.scales[-1] if run.scaler.is_enabled() and seen.scales else math.nan


@observable("After a loss of NaN, is the logged loss a number? (1: yes)", (0.0, 0.0))
def nan_loss_logged(run: Trainer) -> float:
    row = _first_window(run, loss_of_nan).row
    return float(math.isfinite(row["loss"])) if row else math.nan


@observable("Length of the gradient that reaches the step, divided by the length that clipping allows", (0.97, 1.03))
def clip_share(run: Trainer) -> float:
    seen = _first_window(run)
    if not seen.accumulated.isfinite().all() or not seen.accumulated.any():
        return math.nan
    return seen.applied.norm().item() / min(seen.accumulated.norm().item(), run.recipe.clip or math.inf)


@observable("Number of different loss scales within one window", (1, 1))
def scales_in_window(run: Trainer) -> float:
    return len(set(_first_window(run).scales)) or math.nan


@observable("Largest difference between the NMSE term and the same in double precision", (0.0, 1e-5))
def loss_rounding(run: Trainer) -> float:
    """Return NaN if the term differs by more than rounding can explain, which is another fault."""
    batch = _windows(run)[0][0]
    with torch.no_grad():
        estimate = run.estimate(run.model, batch)
        value = run.loss.cov(estimate, batch)
        exact = correct.nmse(estimate.covariance().to(torch.complex128), batch.covariance().to(torch.complex128))
    error = (value - exact).abs().max().item()
    return error if error < 0.05 else math.nan


# -------------------------------------------------------------------- loss and weights


@observable("NMSE term of a perfect estimate", (-1e-3, 1e-3))
def nmse_at_truth(run: Trainer) -> float:
    batch = _windows(run)[0][0]
    return run.loss.cov(_perfect(batch), batch).mean().item()


@observable("Lowest NMSE according to the oracle check, minus the NMSE term of a perfect estimate", (-1e-3, 1e-3))
def oracle_check(run: Trainer) -> float:
    batch = _windows(run)[0][0]
    losses = run.loss.at_truth(run.estimate(run.model, batch), batch)
    return losses.terms["cov"].mean().item() - nmse_at_truth(run)


@observable("Number of loss terms that are computed without a weight, or weighted but not computed", (0, 0))
def terms_in_force(run: Trainer) -> float:
    weighted = {f"term_{name.removeprefix('lam_')}" for name, weight in run.weights.values().items() if weight > 0}
    return len(weighted.symmetric_difference(_computed_terms(run))) if run.ledger.rows else math.nan


@observable("Is a main weight of zero accepted under python -O? (1: yes)", (0.0, 0.0))
def guard_survives(run: Trainer) -> float:
    weights = copy.deepcopy(run.weights)
    object.__setattr__(weights, "lam_cov", 0.0)
    try:
        weights.guard_main_weight()
    except ValueError:
        return 0.0
    except AssertionError:  # python -O removes asserts
        return 1.0
    return 1.0


@observable("Number of loss terms with a finite value but a gradient that is not finite", (0, 0))
def term_gradients(run: Trainer) -> float:
    batch, count = _windows(run)[0][0], 0
    with torch.no_grad():
        estimate = run.estimate(run.model, batch)
    for name in run.loss.active:
        factor = estimate.factor.clone().requires_grad_()
        value = getattr(run.loss, name)(replace(estimate, factor=factor, unblended=None, stages=()), batch).sum()
        if value.requires_grad and value.isfinite():
            (gradient,) = torch.autograd.grad(value, factor, allow_unused=True)
            count += gradient is not None and not gradient.isfinite().all().item()
    return count


@observable("Number of loss terms with a weight that are exactly zero in every window", (0, 0))
def dead_terms(run: Trainer) -> float:
    return sum(all(row[name] == 0 for row in run.ledger.rows) for name in _computed_terms(run))


# -------------------------------------------------------------------- data and evaluation


@observable("Share of the validation scenes that were trained on, in a run on fresh scenes", (0.0, 0.0))
def validation_seen(run: Trainer) -> float:
    if not isinstance(run.scenes, FreshScenes):
        return math.nan
    trained = torch.cat([_scenes(run, epoch).snr_db for epoch in range(len(run.history))])
    return torch.isin(run.validation.snr_db, trained).double().mean().item()


@observable("Similarity of a scene's symbols across snapshots: |mean|² / mean |·|², at 10 dB and above", (0.0, 0.5))
def symbols_alike(run: Trainer) -> float:
    """Estimate the symbols by least squares from the snapshots, with the true steering vectors."""
    batch = _scenes(run)
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


@observable("Peak-contrast term of a perfect estimate: median over scenes", (0.0, 0.6))
def contrast_at_truth(run: Trainer) -> float:
    batch = _scenes(run)
    return run.loss.peak_contrast(_perfect(batch), batch).median().item()


@observable("Last validation value, divided by the NMSE of the final estimate on the same scenes", (0.98, 1.02))
def validation_path(run: Trainer) -> float:
    if not run.history:
        return math.nan
    return run.history[-1]["validation"] / _independent_nmse(run, run.validated_parameters())


@observable("NMSE of the network that a checkpoint saves, divided by the score saved with it", (0.98, 1.02))
def best_checkpoint(run: Trainer) -> float:
    """Return NaN for a run that does not average its parameters: it has only one network to save."""
    if run.average is None or not run.history:
        return math.nan
    return _independent_nmse(run, run.best_parameters()) / run.history[-1]["validation"]


# -------------------------------------------------------------------- shared


@lru_cache(maxsize=3)
def _first_window(run: Trainer, poison: Callable[[Trainer], None] | None = None) -> ObservedWindow:
    """Observe the first epoch's first window; several observables share the result."""
    return observe_window(run, _windows(run)[0], poison)


def _gradient_ratio(run: Trainer, window: list[Batch]) -> float:
    seen, honest = observe_window(run, window).accumulated.norm(), honest_gradient(run, window).norm()
    return (seen / honest).item() if honest.isfinite() and honest > 0 else math.nan


def _windows(run: Trainer) -> list[list[Batch]]:
    """Return the first epoch's windows."""
    return list(run.draw_windows(0))


def _scenes(run: Trainer, epoch: int = 0) -> Batch:
    return concatenate(list(run.scenes.micro_batches(epoch)))


def _perfect(batch: Batch) -> Estimate:
    return Estimate(batch.factor(), torch.zeros_like(batch.snr_db))


@torch.no_grad()
def _independent_nmse(run: Trainer, parameters: dict[str, Tensor]) -> float:
    estimate = run.estimate(partial(call_with, run.model, parameters), run.validation)
    return correct.nmse(estimate.covariance(), run.validation.covariance()).mean().item()


def _average(values: Iterable[float], average: Callable[[list[float]], float] = fmean) -> float:
    """Return the average, or NaN if there are no values."""
    values = list(values)
    return average(values) if values else math.nan


def _logged_over_terms(run: Trainer) -> list[float]:
    """Return the logged loss over the sum of the weighted terms, for each full window where it is finite."""
    shares = []
    for row in run.ledger.rows:
        terms = {name: row.get(name.replace("lam", "term", 1), 0.0) for name in run.weights.values()}
        expected = sum(row[name] * term for name, term in terms.items())
        if row["micro_batches"] == run.recipe.accumulation and expected:
            shares.append(row["loss"] / expected)
    return list(filter(math.isfinite, shares))


def _schedule(run: Trainer) -> list[tuple[float, float]]:
    """Return (ran, advance of the schedule) of every window except the last."""
    pairs = itertools.pairwise(run.ledger.rows)
    return [(row["ran"], after["schedule_count"] - row["schedule_count"]) for row, after in pairs]


def _computed_terms(run: Trainer) -> list[str]:
    return [name for row in run.ledger.rows[:1] for name in row if name.startswith("term_")]
