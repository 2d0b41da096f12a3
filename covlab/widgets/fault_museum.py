"""The museum of faults: the difference, what it moves, what convicts it, as it was measured and published."""

import html

import ipywidgets
from matplotlib.figure import Figure

from covlab.faults import FAULTS
from covlab.faults.evidence import OBSERVABLES
from covlab.faults.matrix import load_confusion, load_matrix
from covlab.markup import marked
from covlab.plots.fault_matrices import one_fault
from covlab.widgets import Explorer
from covlab.widgets.controls import ChoiceControl


class FaultMuseumExplorer(Explorer):
    """One fault at a time. The numbers are those of ``covlab faults matrix``, measured once: nothing is trained here.

    Args:
        fault: to begin with.
    """

    title = "The museum of faults"
    STILLS = (
        ("The reviewed bug", {"fault": "division_in_debug_block"}),
        ("A bug that SGD feels and AdamW hardly", {"fault": "clip_before_unscale"}),
        ("A bug of the evaluation: training is innocent", {"fault": "validation_in_training"}),
    )

    def __init__(self, fault: str = "division_in_debug_block"):
        if fault not in FAULTS:
            raise ValueError(f"fault must be one of {', '.join(FAULTS)}, got {fault!r}")
        self.rows, self.confusion = load_matrix(), load_confusion()
        super().__init__({"fault": ChoiceControl("fault", fault, list(FAULTS), many=True)})
        self.label = ipywidgets.HTML()
        self.extra = [self.label]

    def draw(self, state: dict) -> tuple[Figure, str]:
        fault = FAULTS[state["fault"]]
        rows = [row for row in self.rows if row["fault"] == fault.name]
        detected = self.confusion.get(fault.name, {})
        ratios = "; ".join(f"{row['optimizer']}, {row['clipping']}, {row['precision']}: " + _ratio(row) for row in rows)
        told = ", ".join(f"{name} in {share:.0%} of seeds" for name, share in detected.items()) or "none"
        alt = (
            f"{fault.name}. Left, the NMSE reached with the fault over that without it. {ratios}. Right, the "
            f"observables that convict it: {told}."
        )
        return one_fault(fault.name, rows, detected, fault.observable), alt

    def redraw(self) -> None:
        super().redraw()
        self.label.value = fault_card(self.state["fault"])

    def still(self) -> None:
        """Label and picture of a few exhibits."""
        from IPython.display import HTML, display

        for title, setting in self.STILLS:
            display(HTML(f"<h4>{html.escape(title)}</h4>{fault_card(setting['fault'])}"))
            self.still_of(title, setting)


def fault_card(name: str) -> str:
    """The exhibit's label as HTML: what the fault is, and right code against wrong."""
    fault = FAULTS[name]
    parts = {
        "Changes": fault.changes,
        "Innocent": fault.unaffected,
        "Convicted by": OBSERVABLES[fault.observable].question,
        "Seen in": fault.seen_in,
    }
    words = "".join(f"<dt><b>{key}</b></dt><dd>{marked(text)}</dd>" for key, text in parts.items())
    return f"<p><b>{html.escape(fault.title)}</b></p>{difference(name)}<dl>{words}</dl>"


def difference(name: str, size: str = "inherit") -> str:
    """Right code against wrong as HTML; signs tell the lines apart, and colours repeat it."""
    colours = {"-": "#fbe3d6", "+": "#d9e8f5"}
    lines = [
        f'<span style="display: block; background: {colours.get(line[:1], "none")}">{html.escape(line) or " "}</span>'
        for line in FAULTS[name].diff().splitlines()[2:]
        if not line.startswith("@@")
    ]
    return (
        f'<pre style="font-family: monospace; font-size: {size}; line-height: 1.35; white-space: pre-wrap" '
        'aria-label="difference: minus is right, plus is wrong">'
        f"<span>− right: {FAULTS[name].seam}    + wrong: {name}</span>\n{''.join(lines)}</pre>"
    )


def _ratio(row: dict) -> str:
    return "stopped for its losses" if row["diverged"] else f"{row['validation'] / row['clean_validation']:.2f}"
