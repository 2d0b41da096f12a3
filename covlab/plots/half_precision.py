"""Draw half precision: exponents of gradients, the error it causes, and the path of the loss scale."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np
from matplotlib.figure import Figure

from covlab.arguments import Real, Text, checked
from covlab.plots import COLOURS, LINES, WHITE, check_lengths, legend_below, note, subplots

# Powers of two that limit fp16: its smallest number, the smallest with full precision, and the end (65504).
SMALLEST, NORMAL, LARGEST = -24, -14, 16
EXPONENTS = np.arange(-60, 41)
SUPERSCRIPT = str.maketrans("-0123456789", "⁻⁰¹²³⁴⁵⁶⁷⁸⁹")


@dataclass(frozen=True)
class ScaledGradients:
    """Gradients times the loss scale, as half precision would store them."""

    shares: Mapping[str, np.ndarray]  #: {what: share of entries with floor(log2 |g|) = each of ``EXPONENTS``}
    lost: Mapping[str, float]  #: {what: share that becomes zero}
    blurred: Mapping[str, float]  #: {what: share with less than full precision, zeros not counted}
    overflown: Mapping[str, float]  #: {what: share that becomes infinite}


def exponents_and_path(seen: ScaledGradients, scale: float, path: Sequence[tuple[float, bool]], windows: int) -> Figure:
    """Draw the exponents with the limits of fp16 (above) and the path of the loss scale (below).

    Args:
        scale: the loss scale.
        path: (loss scale, whether the step ran) of each window so far.
        windows: number of windows on the axis.
    """
    margins = {"left": 0.12, "right": 0.97, "bottom": 0.09, "top": 0.92, "hspace": 0.5}
    figure, (above, below) = subplots(2, 1, size=(5.2, 5.4), margins=margins)
    top = 100 * max(share.max() for share in seen.shares.values())
    for low, high, shade, hatch, text, position, align in (
        (-60, SMALLEST, "0.88", "//", "become 0", SMALLEST - 1, "right"),
        (SMALLEST, NORMAL, "0.94", None, "lose digits", (SMALLEST + NORMAL) / 2, "center"),
        (LARGEST, 60, "0.88", "\\\\", "become ∞", LARGEST + 1, "left"),
    ):
        above.axvspan(low, high, facecolor=shade, hatch=hatch, edgecolor="0.75", linewidth=0)
        above.text(position, 1.19 * top, text, ha=align, fontsize=8, bbox=WHITE, zorder=4)
    for what, share in seen.shares.items():
        above.step(EXPONENTS, 100 * share, where="mid", label=what, linewidth=1.8)
    above.set(xlim=(-44, 30), ylim=(0, 1.32 * top))
    above.set(xlabel="exponent of gradient × loss scale, log₂", ylabel="percent of entries")
    above.set_title(f"loss scale 2{f'{np.log2(scale):.0f}'.translate(SUPERSCRIPT)}", fontsize=10, loc="right")

    scales, ran = np.log2([scale for scale, _ in path]), np.array([ran for _, ran in path], dtype=bool)
    numbers = np.arange(1, len(path) + 1)
    below.plot(numbers, scales, "-", color=COLOURS[0], drawstyle="steps-mid", linewidth=1.3)
    below.plot(numbers[ran], scales[ran], "o", color=COLOURS[0], markersize=4, label="step ran")
    skipped = {"color": COLOURS[1], "markersize": 7, "markeredgewidth": 2, "label": "overflow: step skipped"}
    below.plot(numbers[~ran], scales[~ran], "x", **skipped)
    below.set(xlim=(0, windows + 1), ylim=(-2, 34), xlabel="window", ylabel="loss scale, log₂")
    below.yaxis.get_major_locator().set_params(integer=True)
    for axes in (above, below):
        axes.legend(fontsize=8, loc="lower left", bbox_to_anchor=(0, 1.0), ncols=2, frameon=False)
    return figure


@checked
def number_lines(formats: Mapping[str, tuple[Real, Real, Real]]) -> Figure:
    """Draw the sizes that each format can hold, one bar per format on an axis of powers of two.

    Args:
        formats: {name: log2 of the smallest number, of the smallest with all digits, and of the largest}.
    """
    figure, axes = subplots(size=(8, 0.55 * len(formats) + 1.5))
    for row, (smallest, normal, largest) in enumerate(formats.values()):
        full = {"color": COLOURS[0], "height": 0.5, "label": "all digits"}
        few = {"color": "white", "edgecolor": COLOURS[0], "hatch": "////", "height": 0.5, "label": "fewer digits"}
        axes.barh(row, largest - normal, left=normal, **full)
        axes.barh(row, normal - smallest, left=smallest, **few)
    axes.axvline(0, color="black", linewidth=0.8, linestyle=":")
    note(axes, "1", (0, -0.72), (3, 0))
    axes.text(-165, -0.72, "← becomes 0", fontsize=8)
    axes.text(145, -0.72, "becomes ∞ →", fontsize=8, ha="right")
    axes.set_yticks(range(len(formats)), formats)
    axes.set(xlim=(-166, 146), ylim=(len(formats) - 0.5, -1), xlabel="size of the number, log₂")
    handles, labels = axes.get_legend_handles_labels()
    figure.legend(handles[:2], labels[:2], loc="outside lower center", ncols=2, frameon=False)
    return figure


@checked
def error_over_scale(
    powers: Sequence[int], errors: Mapping[str, Sequence[Real]], what: Text, names: Mapping[int, str]
) -> Figure:
    """Draw relative gradient errors over ``what`` = 2^power; a cross at the top marks an error that is not finite.

    Args:
        powers: of two.
        errors: {line: an error for each power}.
        names: {power: its name}, marked on the axis.
    """
    check_lengths("errors", errors, len(powers))
    figure, axes = subplots(size=(8, 4.2))
    for number, ((label, given), colour, line) in enumerate(zip(errors.items(), COLOURS, LINES, strict=False)):
        values = np.array(given)
        finite = np.isfinite(values)
        axes.plot(powers, np.where(finite, values, np.nan), line, marker="o", markersize=4, color=colour, label=label)
        if not finite.all():
            lost = np.array(powers)[~finite]
            style = {"color": colour, "markersize": 8, "markeredgewidth": 2, "label": f"{label}: infinite or NaN"}
            axes.plot(lost, np.full(len(lost), 20 * 2.2**number), "x", **style)
    for power, name in names.items():
        axes.axvline(power, color="black", linewidth=0.8, linestyle=":")
        note(axes, name, (power, 2.4e-4), (3, 0))
    axes.axhline(1, color="black", linewidth=0.8)
    axes.text(powers[-1], 1, "as wrong as no gradient at all", ha="right", va="bottom", fontsize=8)
    axes.set(yscale="log", ylim=(2e-4, 150), xlabel=f"{what}, log₂", ylabel="error of the gradient, ‖g₁ − g₂‖ / ‖g₂‖")
    legend_below(figure, axes, 2)
    return figure
