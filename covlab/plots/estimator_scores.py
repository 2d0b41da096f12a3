"""Draw how estimators compare: error by SNR, and cost."""

from collections.abc import Mapping, Sequence

from matplotlib.figure import Figure

from covlab.arguments import Real, checked
from covlab.plots import COLOURS, LINES, MARKS, WHITE, legend_below, plain_figures, subplots

CURVES = ("sample covariance", "grid ML, far field", "grid ML", "grid ML, refined", "greedy ML, off grid", "genie")


def estimator_table(results: Mapping) -> Figure:
    """Draw what `covlab bench estimators` stored: NMSE by SNR (left); mean, median and time per scene (right).

    Intervals are 95 %. The networks and ``CURVES`` are drawn as curves, every estimator as a row.
    """
    rows = results["rows"]
    figure, (by_snr, costs) = subplots(1, 2, size=(12, 0.3 * len(rows) + 2.2))
    for row in (row for row in rows if row["name"] in CURVES or row["parameters"]):
        middle = [(part["low_db"] + part["high_db"]) / 2 for part in row["by_snr"]]
        means = [part["mean"] for part in row["by_snr"]]
        (line,) = by_snr.plot(middle, means, marker="o", markersize=4, label=row["name"])
        low, high = zip(*(part["mean_95"] for part in row["by_snr"]), strict=True)
        by_snr.fill_between(middle, low, high, color=line.get_color(), alpha=0.15, linewidth=0)
    by_snr.set_xticks(middle, [f"{part['low_db']:g} to {part['high_db']:g}" for part in row["by_snr"]])
    by_snr.set(xlabel="SNR (dB)", ylabel="mean NMSE (1 = knows nothing), 95 % interval", yscale="log")
    figure.legend(*by_snr.get_legend_handles_labels(), fontsize=9, loc="outside lower left", ncols=4)

    for position, row in enumerate(rows):
        colour, mean, (low, high) = COLOURS[1 if row["parameters"] else 0], row["mean"], row["mean_95"]
        costs.errorbar(mean, position, xerr=[[mean - low], [high - mean]], fmt="o", color=colour, capsize=2)
        costs.plot(row["median"], position, "D", color=colour, markerfacecolor="white", markersize=5)
        milliseconds = row["milliseconds"]
        time = f"{milliseconds:.2g} ms" if milliseconds < 10 else f"{milliseconds:.0f} ms"
        costs.text(1.01, position, time, transform=costs.get_yaxis_transform(), va="center", fontsize=8)
    costs.plot([], [], "o", color="black", label="mean")
    costs.plot([], [], "D", color="black", markerfacecolor="white", label="median")
    costs.set_yticks(range(len(rows)), [row["name"] for row in rows])
    costs.invert_yaxis()
    costs.grid(axis="y", linewidth=0.4)
    # The genie's median may be far below everything else. It is cut off, so that it does not squeeze the rest.
    costs.set(xscale="log", xlim=(min(row["mean"] for row in rows) / 5, 1.5))
    costs.set_xlabel("NMSE over the SNR mix; right: processor time per scene, one thread")
    costs.legend(fontsize=8, loc="lower right")
    plain_figures(by_snr.yaxis)
    plain_figures(costs.xaxis)
    fewest, most = min(row["scenes"] for row in rows), max(row["scenes"] for row in rows)
    scenes = most if fewest == most else f"{fewest} to {most}"
    figure.suptitle(f"{results['preset']}: {scenes} unseen scenes, SNR -5 to 20 dB", fontsize=11)
    return figure


@checked
def ladder_chart(rows: Mapping[str, tuple[Real, Real]], lines: Mapping[str, Real]) -> Figure:
    """Draw mean (bar) and median (diamond) error of each estimator, in the given order.

    Args:
        rows: {estimator: (mean NMSE, median NMSE)}.
        lines: {label: NMSE} of vertical lines to compare with.
    """
    figure, axes = subplots(size=(7.5, 0.38 * len(rows) + 1.2))
    means, medians = zip(*rows.values(), strict=True)
    bars = axes.barh(list(rows), means, color=COLOURS[5], edgecolor=COLOURS[0], label="mean")
    axes.plot(medians, list(rows), "D", color=COLOURS[1], label="median")
    for (label, value), line in zip(lines.items(), LINES[1:], strict=False):
        axes.axvline(value, color="black", linestyle=line, linewidth=1, label=label)
    axes.bar_label(bars, fmt="%.3f", padding=8, fontsize=9, bbox=WHITE)
    axes.invert_yaxis()
    axes.set(xlabel="NMSE on unseen scenes", xlim=(0, 1.12 * max(means)))
    axes.legend(loc="lower right", fontsize=9)
    return figure


def position_error_curves(results: Sequence[Mapping]) -> Figure:
    """Draw the position error over SNR with the Cramér-Rao bound, one panel per preset.

    Args:
        results: what `covlab bench estimators --positions` stored for each preset: "preset" and "positions", with
            "rows" of {"snr_db", "bound", estimator: error}, in meters.
    """
    figure, panels = subplots(1, len(results), size=(4.1 * len(results), 4.4), sharey=True, squeeze=False)
    for axes, result in zip(panels[0], results, strict=True):
        rows = result["positions"]["rows"]
        snr = [row["snr_db"] for row in rows]
        for mark, name in zip(MARKS, (name for name in rows[0] if name not in ("snr_db", "bound")), strict=False):
            axes.plot(snr, [row[name] for row in rows], marker=mark, markersize=5, label=name)
        axes.plot(snr, [row["bound"] for row in rows], "-", color="black", linewidth=1, label="Cramér-Rao bound")
        axes.set(xlabel="SNR (dB)", yscale="log", title=result["preset"], ylabel="RMS error of the position (m)")
        axes.grid(linewidth=0.4)
        axes.yaxis.set_major_formatter("{x:g}")
        axes.label_outer()
    legend_below(figure, panels[0, 0], 3, fontsize=9)
    return figure


def limit_curves(results: Mapping[str, Mapping]) -> Figure:
    """Draw the limit, and the network on the same scenes, over SNR, one panel per preset.

    Args:
        results: what `covlab bench limit` stored for each preset.
    """
    figure, panels = subplots(1, len(results), size=(4.6 * len(results), 4.2), sharey=True, squeeze=False)
    scores = {"network": "unrolled network", "limit": "limit (Bayes estimate)"}
    for axes, (name, result) in zip(panels[0], results.items(), strict=True):
        rows = result["by_snr"]
        middle = [(row["low_db"] + row["high_db"]) / 2 for row in rows]
        for shift, mark, (score, label) in zip((-0.4, 0.4), MARKS, scores.items(), strict=False):
            means, errors = zip(*((row[score]["mean"], row[score]["error"]) for row in rows), strict=True)
            snr = [snr_db + shift for snr_db in middle]
            axes.errorbar(snr, means, yerr=errors, marker=mark, markersize=5, capsize=2, label=label)
        axes.set_xticks(middle, [f"{row['low_db']:g} to {row['high_db']:g}" for row in rows])
        axes.set(xlabel="SNR (dB)", yscale="log", title=f"{name}: {result['scenes']} scenes")
        axes.set_ylabel("mean NMSE (1 = knows nothing) ± standard error")
        axes.grid(linewidth=0.4)
        plain_figures(axes.yaxis)
        axes.label_outer()
    legend_below(figure, panels[0, 0], 2, fontsize=9)
    return figure
