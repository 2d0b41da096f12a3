"""Draw errors between covariances."""

import math
from dataclasses import dataclass

import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from covlab.plots import COLOURS, note, subplots

TOP = 2.5  # the largest error drawn over the scale; a triangle marks a larger one


@dataclass(frozen=True)
class Plane:
    """An estimate in the plane of the truth R = (1, 0) and a direction of trace 0 orthogonal to it, in units of ‖R‖."""

    estimate: tuple[float, float]
    plain_pull: tuple[float, float]  #: negative gradient of the plain error
    normalized_pull: tuple[float, float]  #: negative gradient of the normalized error
    plain: float
    normalized: float


def error_geometry(plane: Plane, scale: float) -> Figure:
    """Draw the plane with both pulls on the estimate (above), and both errors over the estimate's scale (below)."""
    margins = {"left": 0.13, "right": 0.97, "bottom": 0.09, "top": 0.95, "hspace": 0.4}
    figure, (above, below) = subplots(2, 1, size=(5.2, 5.4), margins=margins, height_ratios=(1.45, 1))
    _draw_plane(above, plane)
    _draw_errors(below, plane, scale)
    return figure


def _draw_plane(axes: Axes, plane: Plane) -> None:
    x, y = plane.estimate
    defined = not math.isnan(plane.normalized)
    reach = max(1.6, 1.25 * math.hypot(x, y))
    side = 1 if y < 0 else -1  # text goes into the half without the estimate
    axes.set(xlim=(-1.1 * reach, 1.58 * reach), ylim=(-reach, reach), aspect="equal")
    axes.set(xlabel="along R, in units of ‖R‖", ylabel="orthogonal to R, in units of ‖R‖")
    axes.axvline(1, color="0.4", linestyle=":", linewidth=1.2)
    note(axes, "trace N", (1, -side * 0.93 * reach), (4, -4), fontsize=9, color="0.25")
    axes.plot([0, 3 * x], [0, 3 * y], "-", color="0.75", linewidth=1)
    axes.plot(0, 0, "+", color="black")
    axes.plot(1, 0, "*", color="black", markersize=13, label="truth R")
    axes.plot(x, y, "o", color=COLOURS[0], label="estimate R̂")
    if defined:
        axes.plot(1, y / x, "D", markerfacecolor="none", color=COLOURS[2], label="R̂ at trace N")
    for (dx, dy), colour, line, name in (
        (plane.plain_pull, COLOURS[1], "--", "pull of the plain error"),
        (plane.normalized_pull, COLOURS[2], "-", "pull of the NMSE"),
    ):
        length = math.hypot(dx, dy)
        axes.plot([], [], line, color=colour, label=name)
        if length > 1e-9:  # all arrows have one length: only their direction matters
            stretch = 0.38 * reach / length
            arrow = {
                "arrowstyle": "-|>",
                "color": colour,
                "linestyle": line,
                "linewidth": 2,
                "shrinkA": 4,
                "shrinkB": 0,
            }
            axes.annotate("", (x + stretch * dx, y + stretch * dy), (x, y), arrowprops=arrow)
    axes.legend(fontsize=8, loc="upper left" if side > 0 else "lower left", ncols=2, borderaxespad=0.2)
    shown = f"{plane.normalized:.4g}" if defined else "NaN"
    axes.set_title(f"plain error {plane.plain:.4g}, NMSE {shown}", fontsize=10)


def _draw_errors(axes: Axes, plane: Plane, scale: float) -> None:
    """Draw ‖s·u − R‖², a parabola in s with value 1 and slope −2 ⟨u, R⟩ at s = 0, and the NMSE, which is constant."""
    scales = np.geomspace(0.05, 100, 200)
    along = plane.estimate[0] / scale
    square = (plane.plain - 1 + 2 * scale * along) / scale**2
    plain, normalized = 1 - 2 * scales * along + scales**2 * square, np.full_like(scales, plane.normalized)
    side, align = (-7, "right") if scale > 8 else (7, "left")
    for name, error, curve, line, marker, colour, top in (
        ("plain error", plane.plain, plain, "--", "s", COLOURS[1], TOP),
        ("NMSE", plane.normalized, normalized, "-", "o", COLOURS[2], TOP - 0.12),
    ):
        if math.isnan(error):
            text = "NMSE: NaN\n(the trace is not positive)"
            axes.text(0.7, 0.3, text, transform=axes.transAxes, ha="center", fontsize=10)
            continue
        axes.plot(scales, curve, line, color=colour, label=name)
        if error <= TOP:
            axes.plot(scale, error, marker, color=colour)
        else:
            axes.plot(scale, top, "^", color=colour)
            note(axes, f"{error:.3g}", (scale, top), (side, 0), ha=align, va="center")
    axes.set(xscale="log", xlim=(0.05, 100), ylim=(-0.1, 1.04 * TOP))
    axes.set(xlabel="scale s of the estimate", ylabel="error, in units of ‖R‖²")
    axes.set_xticks([0.1, 1, 10, 100], ["0.1", "1", "10", "100"])
    axes.minorticks_off()
    axes.set_title("error over the scale", fontsize=10)
    axes.legend(fontsize=8, loc="upper left")
