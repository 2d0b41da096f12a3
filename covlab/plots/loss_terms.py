"""Pictures of the loss, term by term."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np
from matplotlib.figure import Figure

from covlab.plots import COLOURS, LINES
from covlab.training.trainer import Trainer

LEAST = 1e-3
"""The smallest share that is drawn, in per cent."""


@dataclass(frozen=True)
class Weighted:
    """What weights make of the terms."""

    loss: float  #: Σ λ_i · term_i
    norm: float  #: length of its gradient
    loss_shares: dict[str, float]  #: of the sum of the weighted terms' sizes
    norms: dict[str, float]  #: λ_i ‖g_i‖
    with_total: dict[str, float]  #: cosine of g_i and the whole gradient


@dataclass(frozen=True)
class Terms:
    """Every term's mean over a batch, and the inner products of their gradients, nothing weighted."""

    values: dict[str, float]  #: {weight's name: its term}
    gram: np.ndarray  #: ⟨g_i, g_j⟩ [terms, terms]

    @property
    def cosines(self) -> np.ndarray:
        """Between the terms' gradients [terms, terms]; NaN for a gradient of zero."""
        norms = np.sqrt(np.diag(self.gram))
        with np.errstate(invalid="ignore", divide="ignore"):
            return self.gram / np.outer(norms, norms)

    def weighted(self, weights: Mapping[str, float]) -> Weighted:
        """The loss and its gradient with these weights; both are linear in them."""
        factors = np.array([weights[name] for name in self.values])
        parts, norms = factors * np.array(list(self.values.values())), factors * np.sqrt(np.diag(self.gram))
        norm = np.sqrt(max(factors @ self.gram @ factors, 0.0))
        with np.errstate(invalid="ignore", divide="ignore"):
            along = self.gram @ factors / (np.sqrt(np.diag(self.gram)) * norm)
        size = np.abs(parts).sum() or 1.0

        def named(numbers: np.ndarray) -> dict[str, float]:
            return dict(zip(self.values, numbers.tolist(), strict=True))

        return Weighted(parts.sum().item(), norm.item(), named(np.abs(parts) / size), named(norms), named(along))


def term_shares(terms: Terms, seen: Weighted, weights: Mapping[str, float]) -> Figure:
    """Left each term's share of the loss and of the gradients' lengths, right the cosines between their gradients."""
    figure = Figure(figsize=(9.4, 4.1))
    left, right = figure.subplots(1, 2, width_ratios=(1, 0.95))
    figure.subplots_adjust(left=0.19, right=0.99, bottom=0.23, top=0.87, wspace=0.52)
    names, rows = list(terms.values), np.arange(len(terms.values))
    total = sum(seen.norms.values()) or 1.0
    for shares, offset, mark, colour, label in (
        (seen.loss_shares, -0.16, "o", COLOURS[0], "share of the loss"),
        (
            {name: norm / total for name, norm in seen.norms.items()},
            0.16,
            "D",
            COLOURS[1],
            "share of the gradients' lengths",
        ),
    ):
        values = np.maximum([100 * shares[name] for name in names], LEAST)
        shown = np.array([weights[name] > 0 for name in names])
        left.hlines(rows[shown] + offset, LEAST, values[shown], color=colour, linewidth=1.5)
        left.plot(values[shown], rows[shown] + offset, mark, color=colour, label=label, markersize=6, clip_on=False)
    for row, name in enumerate(names):
        if weights[name] == 0:
            left.text(1.5 * LEAST, row, "off", va="center", fontsize=9, color="0.35")
        left.text(1.02, row, f"{seen.norms[name]:.2g}", transform=left.get_yaxis_transform(), va="center", fontsize=8)
    left.text(1.02, -0.8, "λ‖g‖", transform=left.get_yaxis_transform(), va="center", fontsize=8)
    left.set(xscale="log", xlim=(LEAST, 160), ylim=(len(names) - 0.5, -0.5), xlabel="per cent")
    left.set_xticks([0.001, 0.01, 0.1, 1, 10, 100], ["≤ 0.001", "0.01", "0.1", "1", "10", "100"], fontsize=9)
    left.set_yticks(rows, [f"{name} = {weights[name]:g}" for name in names], fontsize=8)
    left.minorticks_off()
    left.set_title(f"loss {seen.loss:.4g}, gradient {seen.norm:.4g}", fontsize=10)
    left.legend(fontsize=8, loc="upper center", bbox_to_anchor=(0.4, -0.17), ncols=2, frameon=False)

    cosines = np.vstack([terms.cosines, [seen.with_total[name] for name in names]])
    right.imshow(cosines, cmap="PuOr", vmin=-1, vmax=1, aspect="auto")
    for row, line in enumerate(cosines):
        for column, cosine in enumerate(line[:row]):  # the lower half, and of it what is not about zero
            if abs(cosine) >= 0.05:
                text = f"{cosine:.1f}".replace("0.", ".")
                right.text(
                    column,
                    row,
                    text,
                    ha="center",
                    va="center",
                    fontsize=8,
                    color="white" if abs(cosine) > 0.7 else "black",
                )
    right.axhline(len(names) - 0.5, color="black", linewidth=1.5)
    short = [name.removeprefix("lam_") for name in names]
    right.set_xticks(rows, short, rotation=45, ha="right", fontsize=8)
    right.set_yticks(range(len(names) + 1), [*short, "the whole"], fontsize=8)
    right.tick_params(length=0)
    right.set_title("cosines between gradients", fontsize=10)
    return figure


def weighted_runs(runs: Sequence[tuple[str, Trainer]]) -> Figure:
    """The held-out NMSE of runs with different weights: a number that does not depend on them. The last is drawn
    thicker.
    """
    figure = Figure(figsize=(9.4, 3.4))
    axes = figure.subplots()
    figure.subplots_adjust(left=0.08, right=0.99, bottom=0.15, top=0.9)
    for number, (name, run) in enumerate(runs):
        windows = np.cumsum([1] * len(run.history)) * run.windows_per_epoch
        last = number == len(runs) - 1
        axes.plot(
            np.minimum(windows, run.recipe.windows),
            [row["validation"] for row in run.history],
            LINES[number % len(LINES)],
            color=COLOURS[number % len(COLOURS)],
            linewidth=2.6 if last else 1.3,
            marker="o" if last else None,
            markersize=4,
            label=f"{number + 1}: {name}",
        )
    axes.set(xlabel="window (optimizer step)", ylabel="held-out NMSE")
    axes.set_title("training with these weights, over earlier settings", fontsize=10)
    if runs:
        axes.legend(fontsize=8)
    return figure


def pulls_over_training(windows: Sequence[int], pulls: Mapping[str, Sequence[float]]) -> Figure:
    """The length of each term's weighted gradient over the windows; the first two terms are drawn thicker."""
    figure = Figure(figsize=(9.4, 4.2), layout="constrained")
    axes = figure.subplots()
    for number, (name, lengths) in enumerate(pulls.items()):
        axes.plot(
            windows,
            lengths,
            LINES[number % len(LINES)],
            marker="osD^vP*X"[number],
            markersize=5,
            color=COLOURS[number % len(COLOURS)],
            linewidth=2.6 if number < 2 else 1.2,
            label=name,
        )
    axes.set(xlabel="window (optimizer step)", ylabel="length of the weighted gradient, λ‖g‖", yscale="log")
    axes.set_xscale("symlog", linthresh=2)
    axes.set_xlim(-0.2, 1.2 * max(windows))
    axes.set_xticks(windows, [str(window) for window in windows])
    axes.set_xticks([], minor=True)
    figure.legend(loc="outside right upper", fontsize=9)
    return figure


def logged_and_held_out(runs: Mapping[str, Trainer]) -> Figure:
    """Left the loss as each run logs it, right the held-out NMSE, over the epochs."""
    figure = Figure(figsize=(9.4, 3.6), layout="constrained")
    for axes, value, title in zip(
        figure.subplots(1, 2), ("train", "validation"), ("loss, as logged", "held-out NMSE"), strict=True
    ):
        for (name, run), colour, line in zip(runs.items(), COLOURS, LINES, strict=False):
            stamp = " (BUGGED)" if run.faults else ""
            axes.plot(
                [row["epoch"] + 1 for row in run.history],
                [row[value] for row in run.history],
                line,
                color=colour,
                label=f"{name}{stamp}",
            )
        axes.set(title=title, xlabel="epoch", ylim=(0, None))
        axes.legend(fontsize=8)
    return figure
