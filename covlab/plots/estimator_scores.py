"""Pictures of estimators: error by SNR, and what it costs."""

from collections.abc import Mapping, Sequence

import matplotlib.pyplot as plt
from matplotlib.figure import Figure

from covlab.plots import COLOURS, LINES, plain_figures

CURVES = ("sample covariance", "grid ML, far field", "grid ML", "grid ML, refined", "greedy ML, off grid", "genie")


def estimator_table(results: Mapping) -> Figure:
    """What `covlab bench estimators` stored: left, NMSE by SNR with 95 % intervals; right, mean, median and time a
    scene.

    Drawn as curves: the networks and a selection of the ladder (``CURVES``); as rows: everything.
    """
    rows = results["rows"]
    figure, (by_snr, costs) = plt.subplots(1, 2, figsize=(12, 0.3 * len(rows) + 2.2), layout="constrained")
    for number, row in enumerate(row for row in rows if row["name"] in CURVES or row["parameters"]):
        middle = [(part["low_db"] + part["high_db"]) / 2 for part in row["by_snr"]]
        colour, line = COLOURS[number % len(COLOURS)], LINES[number % len(LINES)]
        by_snr.plot(
            middle,
            [part["mean"] for part in row["by_snr"]],
            line,
            marker="o",
            markersize=4,
            color=colour,
            label=row["name"],
        )
        low, high = zip(*(part["mean_95"] for part in row["by_snr"]), strict=True)
        by_snr.fill_between(middle, low, high, color=colour, alpha=0.15, linewidth=0)
    by_snr.set_xticks(middle, [f"{part['low_db']:g} to {part['high_db']:g}" for part in row["by_snr"]])
    by_snr.set(xlabel="SNR (dB)", ylabel="mean NMSE (1 = knows nothing), 95 % interval", yscale="log")
    figure.legend(*by_snr.get_legend_handles_labels(), fontsize=9, loc="outside lower left", ncols=4)

    for position, row in enumerate(rows):
        colour = COLOURS[1] if row["parameters"] else COLOURS[0]
        low, high = row["mean_95"]
        costs.errorbar(
            row["mean"],
            position,
            xerr=[[row["mean"] - low], [high - row["mean"]]],
            fmt="o",
            color=colour,
            markersize=6,
            capsize=2,
        )
        costs.plot(row["median"], position, "D", color=colour, markerfacecolor="white", markersize=5)
        milliseconds = row["milliseconds"]
        costs.annotate(
            f"{milliseconds:.2g} ms" if milliseconds < 10 else f"{milliseconds:.0f} ms",
            (1.01, position),
            xycoords=("axes fraction", "data"),
            va="center",
            fontsize=8,
        )
    costs.plot([], [], "o", color="black", label="mean")
    costs.plot([], [], "D", color="black", markerfacecolor="white", label="median")
    costs.set_yticks(range(len(rows)), [row["name"] for row in rows])
    costs.invert_yaxis()
    costs.grid(axis="y", linewidth=0.4)
    # The genie's median may be far below anything else: it is cut off rather than letting it squeeze the rest.
    least = min(row["mean"] for row in rows)
    costs.set(
        xscale="log",
        xlabel="NMSE over the SNR mix; beside it, processor time a scene on one thread",
        xlim=(least / 5, 1.5),
    )
    costs.legend(fontsize=8, loc="lower right")
    plain_figures(by_snr.yaxis)
    plain_figures(costs.xaxis)
    fewest, most = min(row["scenes"] for row in rows), max(row["scenes"] for row in rows)
    figure.suptitle(
        f"{results['preset']}: {most if fewest == most else f'{fewest} to {most}'} unseen scenes, SNR -5 to 20 dB",
        fontsize=11,
    )
    return figure


def ladder_chart(rows: Mapping[str, tuple[float, float]], lines: Mapping[str, float]) -> Figure:
    """Mean (bar) and median (diamond) error of each estimator, in the given order.

    Args:
        rows: {estimator: (mean NMSE, median NMSE)}.
        lines: {label: NMSE} of vertical lines to compare with.
    """
    figure, axes = plt.subplots(figsize=(7.5, 0.38 * len(rows) + 1.2), layout="constrained")
    places = range(len(rows))
    means, medians = zip(*rows.values(), strict=True)
    axes.barh(places, means, color=COLOURS[5], edgecolor=COLOURS[0], label="mean")
    axes.plot(medians, places, "D", color=COLOURS[1], label="median")
    for (label, value), line in zip(lines.items(), ("--", ":"), strict=False):
        axes.axvline(value, color="black", linestyle=line, linewidth=1, label=label)
    for place, mean, median in zip(places, means, medians, strict=True):
        axes.annotate(
            f"{mean:.3f}",
            (max(mean, median), place),
            xytext=(8, 0),
            textcoords="offset points",
            va="center",
            fontsize=9,
            bbox={"facecolor": "white", "edgecolor": "none", "pad": 1},
        )
    axes.set_yticks(places, rows)
    axes.invert_yaxis()
    axes.set(xlabel="NMSE on scenes nobody has seen", xlim=(0, 1.12 * max(means)))
    axes.legend(loc="lower right", fontsize=9)
    return figure


def position_error_curves(results: Sequence[Mapping]) -> Figure:
    """What `covlab bench estimators --positions` stored, a panel a preset: error of a place against SNR, over the
    Cramér-Rao bound.

    Args:
        results: of each preset: "preset" and "positions", with "rows" of {"snr_db", "bound", estimator: error}, in
            metres.
    """
    figure, panels = plt.subplots(
        1, len(results), figsize=(4.1 * len(results), 4.4), sharey=True, squeeze=False, layout="constrained"
    )
    for axes, result in zip(panels[0], results, strict=True):
        rows = result["positions"]["rows"]
        snr = [row["snr_db"] for row in rows]
        for number, name in enumerate(name for name in rows[0] if name not in ("snr_db", "bound")):
            axes.plot(
                snr,
                [row[name] for row in rows],
                LINES[number % len(LINES)],
                marker="o^sD"[number % 4],
                markersize=5,
                color=COLOURS[number],
                label=name,
            )
        axes.plot(snr, [row["bound"] for row in rows], color="black", linewidth=1, label="Cramér-Rao bound")
        axes.set(xlabel="SNR (dB)", yscale="log", title=result["preset"])
        axes.grid(linewidth=0.4)
        axes.yaxis.set_major_formatter("{x:g}")
    panels[0, 0].set_ylabel("root mean square error of the place (m)")
    figure.legend(*panels[0, 0].get_legend_handles_labels(), loc="outside lower center", ncols=3, fontsize=9)
    return figure
