"""The case of the scaling bug: what correct and buggy runs show side by side, and the timeline of ten reports."""

from collections.abc import Sequence
from html import escape
from statistics import median_high
from typing import Annotated

from IPython.display import display

from covlab.arguments import Seed, checked, whole_number
from covlab.faults.case import REPORTS, Reruns
from covlab.training.trainer import Trainer

OBSERVED = {
    "logged loss over measured error": lambda run: run.history[-1]["train"] / run.history[-1]["validation"],
    "gradient norm, first window": lambda run: run.ledger.rows[0]["gradient_norm"],
    "update norm, first window": lambda run: run.ledger.rows[0]["update_norm"],
    "update norm, median": lambda run: median_high(run.ledger.columns()["update_norm"]),
    "error reached": lambda run: run.history[-1]["validation"],
}


@checked
def ratios(runs: dict[str, dict[str, Trainer]]) -> dict[str, dict[str, float]]:
    """Return {recipe: {what is observed: value with the bug over correct value}}.

    Args:
        runs: {recipe: {"correct": run, "with the bug": run}}.
    """
    return {
        title: {name: value(both["with the bug"]) / value(both["correct"]) for name, value in OBSERVED.items()}
        for title, both in runs.items()
    }


@checked
def epochs_side_by_side(runs: dict[str, Trainer]) -> tuple[list[str], list[list[str]]]:
    """Return the header and rows of a table of the epochs of ``runs``, {label: run}.

    Norms are of the last window of each epoch.
    """
    names = ["train", "validation", "gradient norm", "update norm"]
    header = ["epoch", *(f"{name}, {label}" for label in runs for name in names)]
    rows = [[str(epoch + 1)] for epoch in range(len(next(iter(runs.values())).history))]
    for run in runs.values():
        for epoch, cells in zip(run.history, rows, strict=True):
            window = run.ledger.rows[len(run.ledger.rows) * int(cells[0]) // len(rows) - 1]
            cells += [f"{epoch['train']:.4f}", f"{epoch['validation']:.4f}"]
            cells += [f"{window['gradient_norm']:.3f}", f"{window['update_norm']:.5f}"]
    return header, rows


Number = Annotated[int, whole_number(1, len(REPORTS))]
_SIGNS = {
    "false": ("✗", "#D55E00"),
    "real": ("◐", "#0072B2"),
    "half": ("◐", "#0072B2"),
    "true": ("✓", "#009E73"),
    "not": ("○", "inherit"),
}  # {first word of a verdict: (sign, color)}


class Timeline:
    """The ten reports on the case, in order, with the results of those that were tested.

    Attributes:
        tested: {number of the report, from 1: (what was measured, the verdict)}.
        run: the small runs that the tests share.
    """

    @checked
    def __init__(self, seed: Seed = 0):
        self.run = Reruns(seed)
        self.tested: dict[int, tuple[str, str]] = {}

    @checked
    def test(self, *numbers: Number) -> None:
        """Test these reports, and show the timeline with all results so far, and with the evidence for these."""
        new = [number for number in numbers if number not in self.tested]
        self.run.together(*(rerun for number in new for rerun in REPORTS[number - 1].reruns))
        for number in new:
            self.tested[number] = REPORTS[number - 1].test(self.run)
        self._show(numbers)

    def show(self) -> None:
        """Show all ten reports, and the verdict on those that were tested."""
        self._show(())

    def _show(self, with_evidence: Sequence[int]) -> None:
        items, plain = "", []
        for number, report in enumerate(REPORTS, 1):
            measured, verdict = self.tested.get(number, ("", "not tested yet"))
            sign, color = _SIGNS[verdict.split()[0].strip(":,")]
            evidence = f" Measured: {measured}." if number in with_evidence else ""
            items += (
                f'<li style="margin: .3em 0">{escape(report.date)}: {escape(report.blamed)}<br>'
                f'<span style="color: {color}">{sign}</span> <b>{escape(verdict)}.</b>{escape(evidence)}</li>'
            )
            plain.append(f"{number}. {report.date}: {report.blamed}\n   {sign} {verdict}.{evidence}")
        whole = f'<ol style="border-left: 3px solid #8886; max-width: 48em">{items}</ol>'
        display({"text/html": whole, "text/plain": "\n".join(plain)}, raw=True)
