"""The museum of faults: code difference, effects and evidence of each, as measured and published."""

import html

import ipywidgets
from matplotlib.figure import Figure

from covlab.arguments import one_of
from covlab.faults import FAULTS
from covlab.faults.evidence import OBSERVABLES
from covlab.faults.matrix import load_confusion, load_matrix
from covlab.markup import marked
from covlab.plots.fault_matrices import one_fault
from covlab.widgets import Explorer
from covlab.widgets.controls import ChoiceControl


class FaultMuseumExplorer(Explorer):
    """One fault at a time, with the published numbers of ``covlab faults matrix``; nothing is trained here.

    Args:
        fault: name of the first fault shown.
    """

    title = "The museum of faults"

    def __init__(self, fault: str = "division_in_debug_block"):
        one_of(FAULTS).check("fault", fault)
        self.rows, self.confusion = load_matrix(), load_confusion()
        super().__init__({"fault": ChoiceControl("fault", fault, list(FAULTS), many=True)})
        self.label, self.code = ipywidgets.HTML(), ipywidgets.HTML()
        self.extra, self.below = [self.label], [self.code]

    def draw(self, state: dict) -> tuple[Figure, str]:
        fault = FAULTS[state["fault"]]
        rows = [row for row in self.rows if row["fault"] == fault.name]
        detected = self.confusion.get(fault.name, {})
        ratios = "; ".join(f"{row['optimizer']}, {row['clipping']}, {row['precision']}: {_ratio(row)}" for row in rows)
        shares = ", ".join(f"{name} in {share:.0%} of seeds" for name, share in detected.items()) or "none"
        alt = (
            f"{fault.name}. Above, the final NMSE with the fault divided by the one without it. {ratios}. Below, the "
            f"observables that detect it: {shares}."
        )
        return one_fault(fault.name, rows, detected, fault.observable), alt

    def redraw(self) -> None:
        super().redraw()
        self.label.value, self.code.value = fault_card(self.state["fault"]), difference(self.state["fault"])


def fault_card(name: str) -> str:
    """Return the exhibit's label as HTML: what the fault is and does."""
    fault = FAULTS[name]
    parts = {
        "Changes": fault.changes,
        "Unaffected": fault.unaffected,
        "Detected by": OBSERVABLES[fault.observable].question,
        "Seen in": fault.seen_in,
    }
    title = f'<p style="margin: 0"><b>{html.escape(fault.title)}</b></p>'
    words = "".join(f'<p style="margin: 6px 0 0"><b>{key}:</b> {marked(text)}</p>' for key, text in parts.items())
    return f'<div style="line-height: 1.4">{title}{words}</div>'


def difference(name: str, size: str = "inherit") -> str:
    """Return the difference between correct and buggy code as HTML, with signs and colors for the lines."""
    colors = {
        sign: f"; background-color: {color}; color: black" for sign, color in (("-", "#fbe3d6"), ("+", "#d9e8f5"))
    }
    lines = [
        f'<span style="display: block{colors.get(line[:1], "")}">{html.escape(line) or " "}</span>'
        for line in FAULTS[name].diff().splitlines()[2:]
        if not line.startswith("@@")
    ]
    return (
        f'<pre style="font-family: monospace; font-size: {size}; line-height: 1.35; white-space: pre-wrap" '
        'aria-label="difference: minus is correct, plus is buggy">'
        f"<span>− correct: {FAULTS[name].seam}    + buggy: {name}</span>\n{''.join(lines)}</pre>"
    )


def _ratio(row: dict) -> str:
    return "stopped because of its losses" if row["diverged"] else f"{row['validation'] / row['clean_validation']:.2f}"
