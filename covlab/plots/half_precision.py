"""Pictures of half precision: exponents of gradients, what it costs them, and the path of the loss scale."""

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import matplotlib.pyplot as plt
import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.ticker import AutoLocator

from covlab.plots import COLOURS, LINES

SMALLEST, NORMAL, LARGEST = -24, -14, 16
"""Powers of two between which fp16 lives: its smallest number, its smallest with full precision, and where it ends
(65504).
"""

EXPONENTS = np.arange(-60, 41)
SUPERSCRIPT = str.maketrans("-0123456789", "⁻⁰¹²³⁴⁵⁶⁷⁸⁹")


@dataclass(frozen=True)
class ScaledGradients:
    """Gradients times the loss scale, as half precision would hold them."""

    shares: Mapping[str, np.ndarray]  #: {what: share of entries with floor(log2 |g|) = each of ``EXPONENTS``}
    lost: Mapping[str, float]  #: {what: share that becomes zero}
    blurred: Mapping[str, float]  #: {what: share with less than full precision, zeros not counted}
    overflown: Mapping[str, float]  #: {what: share that becomes infinite}


def exponents_and_path(seen: ScaledGradients, scale: float, path: Sequence[tuple[float, bool]], windows: int) -> Figure:
    """Left the exponents against fp16's limits, right the scaler's path: (loss scale, did the step run?) window by
    window.
    """
    figure = Figure(figsize=(9.2, 3.8))
    left, right = figure.subplots(1, 2, width_ratios=(1.25, 1))
    figure.subplots_adjust(left=0.08, right=0.98, bottom=0.15, top=0.8, wspace=0.22)
    left.axvspan(-60, SMALLEST, facecolor="0.88", hatch="//", edgecolor="0.75", linewidth=0)
    left.axvspan(SMALLEST, NORMAL, facecolor="0.94", edgecolor="0.75", linewidth=0)
    left.axvspan(LARGEST, 60, facecolor="0.88", hatch="\\\\", edgecolor="0.75", linewidth=0)
    top = 100 * max(share.max() for share in seen.shares.values())
    for (what, share), colour, line in zip(seen.shares.items(), COLOURS, LINES, strict=False):
        left.step(EXPONENTS, 100 * share, line, where="mid", color=colour, label=what, linewidth=1.8)
    for place, words in (
        (SMALLEST - 1, "become 0"),
        ((SMALLEST + NORMAL) / 2, "lose digits"),
        (LARGEST + 1, "become ∞"),
    ):
        side = "right" if place == SMALLEST - 1 else "left" if place == LARGEST + 1 else "center"
        left.text(
            place, 1.19 * top, words, ha=side, fontsize=8, bbox={"facecolor": "white", "edgecolor": "none", "pad": 1.5}
        )
    left.set(
        xlim=(-44, 30),
        ylim=(0, 1.32 * top),
        xlabel="exponent of gradient × loss scale, log₂",
        ylabel="per cent of entries",
    )
    left.legend(fontsize=8, loc="lower left", bbox_to_anchor=(0, 1.0), ncols=2, frameon=False)
    left.set_title(f"loss scale 2{f'{np.log2(scale):.0f}'.translate(SUPERSCRIPT)}", fontsize=10, loc="right")
    _draw_path(right, path, windows)
    return figure


def _draw_path(axes: Axes, path: Sequence[tuple[float, bool]], windows: int) -> None:
    scales = np.log2([scale for scale, _ in path]) if path else np.array([])
    ran = np.array([ran for _, ran in path], dtype=bool)
    places = np.arange(1, len(path) + 1)
    axes.plot(places, scales, "-", color=COLOURS[0], drawstyle="steps-mid", linewidth=1.3)
    axes.plot(places[ran], scales[ran], "o", color=COLOURS[0], markersize=4, label="step ran")
    axes.plot(
        places[~ran],
        scales[~ran],
        "x",
        color=COLOURS[1],
        markersize=7,
        markeredgewidth=2,
        label="overflow: step skipped",
    )
    if len(path):
        axes.set_ylim(scales.min() - 2.5, scales.max() + 2.5)
    axes.set(xlim=(0, windows + 1), xlabel="window", ylabel="loss scale, log₂")
    whole = AutoLocator()
    whole.set_params(integer=True)
    axes.yaxis.set_major_locator(whole)
    axes.legend(fontsize=8, loc="lower left", bbox_to_anchor=(0, 1.0), ncols=2, frameon=False)


def error_over_scale(
    powers: Sequence[int], errors: Mapping[str, Sequence[float]], what: str, names: Mapping[int, str]
) -> Figure:
    """Relative gradient error over ``what``, 2^power, both logarithmic; an error that is not finite is a cross at the
    top.

    Args:
        powers: of two.
        errors: {line: an error for each power}.
        names: {power: what it is called}, marked on the axis.
    """
    figure, axes = plt.subplots(figsize=(8, 4.2), layout="constrained")
    for number, ((label, values), colour, line) in enumerate(zip(errors.items(), COLOURS, LINES, strict=False)):
        finite = [value if math.isfinite(value) else math.nan for value in values]
        axes.plot(powers, finite, line, marker="o", markersize=4, color=colour, label=label)
        lost = [power for power, value in zip(powers, values, strict=True) if not math.isfinite(value)]
        if lost:
            axes.plot(
                lost,
                [20 * 2.2**number] * len(lost),
                "x",
                color=colour,
                markersize=8,
                markeredgewidth=2,
                label=f"{label}: infinite or NaN",
            )
    for power, name in names.items():
        axes.axvline(power, color="black", linewidth=0.8, linestyle=":")
        axes.annotate(name, (power, 2.4e-4), xytext=(3, 0), textcoords="offset points", fontsize=8)
    axes.axhline(1, color="black", linewidth=0.8)
    axes.annotate("as wrong as no gradient at all", (powers[-1], 1), ha="right", va="bottom", fontsize=8)
    axes.set(yscale="log", ylim=(2e-4, 150), xlabel=f"{what}, log₂", ylabel="error of the gradient, ‖g₁ − g₂‖ / ‖g₂‖")
    figure.legend(loc="outside lower center", ncols=2, frameon=False)
    return figure
