"""Draw the loss, term by term."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np
from matplotlib.figure import Figure

from covlab.arguments import Real, checked
from covlab.plots import COLOURS, MARKS, cells, check_lengths, over_epochs, stamped, subplots
from covlab.training.trainer import Trainer

LEAST = 1e-3  # the smallest share that is drawn, in percent


@dataclass(frozen=True)
class Weighted:
    """The loss and its gradient for one set of weights."""

    loss: float  #: Σ λ_i · term_i
    norm: float  #: length of the gradient
    loss_shares: dict[str, float]  #: |λ_i · term_i|, as shares of their sum
    norms: dict[str, float]  #: λ_i ‖g_i‖
    with_total: dict[str, float]  #: cosine between g_i and the whole gradient


@dataclass(frozen=True)
class Terms:
    """Every unweighted term's mean over a batch, and the inner products of their gradients."""

    values: dict[str, float]  #: {weight's name: its term}
    gram: np.ndarray  #: ⟨g_i, g_j⟩ [terms, terms]

    @property
    def cosines(self) -> np.ndarray:
        """Return the cosines between the terms' gradients [terms, terms]; NaN for a gradient of zero."""
        norms = np.sqrt(np.diag(self.gram))
        with np.errstate(invalid="ignore", divide="ignore"):
            return self.gram / np.outer(norms, norms)

    @checked
    def weighted(self, weights: Mapping[str, float]) -> Weighted:
        """Return the loss and its gradient for these weights; both are linear in the weights."""
        if missing := [name for name in self.values if name not in weights]:
            raise ValueError(f"weights must name every term, got none for {', '.join(missing)}")
        factors = np.array([weights[name] for name in self.values])
        parts, norms = factors * np.array(list(self.values.values())), factors * np.sqrt(np.diag(self.gram))
        norm = np.sqrt(max(factors @ self.gram @ factors, 0.0))
        with np.errstate(invalid="ignore", divide="ignore"):
            along = self.gram @ factors / (np.sqrt(np.diag(self.gram)) * norm)
        size = np.abs(parts).sum() or 1.0

        def named(numbers: np.ndarray) -> dict[str, float]:
            return dict(zip(self.values, numbers.tolist(), strict=True))

        return Weighted(parts.sum().item(), norm.item(), named(np.abs(parts) / size), named(norms), named(along))

    @checked
    def compared(self, before: Mapping[str, float], after: Mapping[str, float]) -> tuple[float, float]:
        """Compare the whole gradients for two settings of the weights: (‖after‖ / ‖before‖, the angle in degrees).

        The angle is NaN if one of the gradients is zero, and the ratio if both are.
        """
        was, now = self.weighted(before).norm, self.weighted(after).norm
        one, other = (np.array([weights[name] for name in self.values]) for weights in (before, after))
        with np.errstate(invalid="ignore", divide="ignore"):
            cosine = one @ self.gram @ other / np.float64(was * now)
            return float(np.float64(now) / was), float(np.rad2deg(np.arccos(np.clip(cosine, -1, 1))))


@checked
def term_shares(terms: Terms, seen: Weighted, weights: Mapping[str, float]) -> Figure:
    """Draw the terms' shares of the loss and of the gradients' lengths (above), and the gradients' cosines (below)."""
    if missing := [name for name in terms.values if name not in weights or name not in seen.norms]:
        raise ValueError(f"weights and seen must name every term, got none for {', '.join(missing)}")
    margins = {"left": 0.38, "right": 0.86, "bottom": 0.15, "top": 0.95, "hspace": 0.66}
    figure, (above, below) = subplots(2, 1, size=(5.2, 5.5), margins=margins)
    names, rows = list(terms.values), np.arange(len(terms.values))
    total = sum(seen.norms.values()) or 1.0
    shown = np.array([weights[name] > 0 for name in names])
    for parts, whole, offset, mark, colour, label in (
        (seen.loss_shares, 1.0, -0.16, "o", COLOURS[0], "share of the loss"),
        (seen.norms, total, 0.16, "D", COLOURS[1], "share of the gradients' lengths"),
    ):
        values = np.maximum([100 * parts[name] / whole for name in names], LEAST)[shown]
        above.hlines(rows[shown] + offset, LEAST, values, color=colour, linewidth=1.5)
        above.plot(values, rows[shown] + offset, mark, color=colour, label=label, clip_on=False)
    outside = {"transform": above.get_yaxis_transform(), "va": "center", "fontsize": 8}
    above.text(1.02, -0.8, "λ‖g‖", **outside)
    for row, name in enumerate(names):
        above.text(1.02, row, f"{seen.norms[name]:.2g}", **outside)
        if weights[name] == 0:
            above.text(1.5 * LEAST, row, "off", va="center", fontsize=9, color="0.35")
    above.set(xscale="log", xlim=(LEAST, 160), ylim=(len(names) - 0.5, -0.5), xlabel="percent")
    above.set_xticks([0.001, 0.01, 0.1, 1, 10, 100], ["≤ 0.001", "0.01", "0.1", "1", "10", "100"], fontsize=9)
    above.set_yticks(rows, [f"{name} = {weights[name]:.3g}" for name in names], fontsize=8)
    above.minorticks_off()
    above.set_title(f"loss {seen.loss:.4g}, gradient {seen.norm:.4g}", fontsize=10)
    above.legend(fontsize=8, loc="upper center", bbox_to_anchor=(0.3, -0.2), ncols=2, frameon=False)

    cosines = np.vstack([terms.cosines, [seen.with_total[name] for name in names]])
    lower = zip(*np.nonzero(np.tril(np.abs(cosines) >= 0.05, -1)), strict=True)  # the upper half repeats the lower one
    texts = {(row, column): f"{cosines[row, column]:.1f}".replace("0.", ".") for row, column in lower}
    short = [name.removeprefix("lam_") for name in names]
    cells(below, cosines, texts, [*short, "whole gradient"], short, letters=7.5, cmap="PuOr", vmin=-1, vmax=1)
    below.axhline(len(names) - 0.5, color="black", linewidth=1.5)
    below.set_xticks(rows, short, rotation=45, ha="right", fontsize=8)
    below.tick_params(length=0)
    below.set_title("cosines between gradients", fontsize=10)
    return figure


def weighted_runs(runs: Sequence[tuple[str, Trainer]]) -> Figure:
    """Draw the held-out NMSE (independent of the weights) of runs with different weights; the last one is thicker."""
    margins = {"left": 0.12, "right": 0.97, "bottom": 0.16, "top": 0.91}
    figure, axes = subplots(size=(5.2, 3.1), margins=margins)
    for number, (name, run) in enumerate(runs, 1):
        epochs, errors = over_epochs(run, "validation")
        windows = np.minimum(np.array(epochs, dtype=int) * run.windows_per_epoch, run.recipe.windows)
        width, mark = (2.6, "o") if number == len(runs) else (1.3, None)
        axes.plot(windows, errors, linewidth=width, marker=mark, markersize=4, label=f"{number}: {name}")
    # Neither the axes nor the legend move while a run goes on.
    most = max((row["validation"] for _, run in runs for row in run.history), default=0.0)
    axes.set(xlim=(0, 1.02 * max((run.recipe.windows for _, run in runs), default=1)), ylim=(0, max(1.1, 1.05 * most)))
    axes.set(xlabel="window (optimizer step)", ylabel="held-out NMSE")
    axes.set_title("training with these weights (thick) and with earlier settings", fontsize=10)
    if runs:
        axes.legend(fontsize=8, loc="lower left")
    return figure


@checked
def pulls_over_training(windows: Sequence[int], pulls: Mapping[str, Sequence[Real]]) -> Figure:
    """Draw the length of each term's weighted gradient over the windows; the first two terms are drawn thicker."""
    check_lengths("pulls", pulls, len(windows))
    figure, axes = subplots(size=(9.4, 4.2))
    for number, ((name, lengths), mark) in enumerate(zip(pulls.items(), MARKS, strict=False)):
        axes.plot(windows, lengths, marker=mark, markersize=5, linewidth=2.6 if number < 2 else 1.2, label=name)
    axes.set(xlabel="window (optimizer step)", ylabel="length of the weighted gradient, λ‖g‖", yscale="log")
    axes.set_xscale("symlog", linthresh=2)
    axes.set_xlim(-0.2, 1.2 * max(windows))
    axes.set_xticks(windows, [str(window) for window in windows])
    axes.set_xticks([], minor=True)
    figure.legend(loc="outside right upper", fontsize=9)
    return figure


@checked
def logged_and_held_out(runs: Mapping[str, Trainer]) -> Figure:
    """Draw the loss as each run logs it (left) and the held-out NMSE (right) over the epochs."""
    figure, (left, right) = subplots(1, 2, size=(9.4, 3.6))
    for axes, column, title in ((left, "train", "loss, as logged"), (right, "validation", "held-out NMSE")):
        for name, run in runs.items():
            axes.plot(*over_epochs(run, column), label=stamped(name, run))
        axes.set(title=title, xlabel="epoch", ylim=(0, None))
        axes.legend(fontsize=8)
    return figure
