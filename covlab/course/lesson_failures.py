"""Looks at an executed notebook for what papermill passes over in silence.

papermill knows one kind of failure: an error among the outputs of a cell. Widgets keep errors in
their state, threads and child processes write theirs to stderr, `sys.exit(0)` ends a notebook
early and counts as success, a progress bar stays at 0 % for ever, and a picture may say nothing
to somebody who cannot see it.
"""

import re
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from html import unescape
from html.parser import HTMLParser
from typing import Any

from nbformat import NotebookNode

from covlab.course import MEASUREMENT, VERDICT, WIDGET_ERROR
from covlab.course.prose import images, render

ANSI = re.compile(r"\x1b\[[0-9;]*m")
TRACEBACK = "Traceback (most recent call last)"
# No code of a lesson runs on the kernel's control channel. While the kernel ends, its main thread may close the channel
# of outputs before its control thread has flushed them; ipykernel then prints a traceback of its own.
KERNEL_ENDS = re.compile(r'ipykernel/kernelbase\.py", line \d+, in process_control')
WIDGETS = "application/vnd.jupyter.widget-state+json"
VIEW = "application/vnd.jupyter.widget-view+json"
EXPLORER_ERROR = re.compile(f'{WIDGET_ERROR}="([^"]*)"')
LAST_LINES = 12
# tqdm's "40%|████" and rich's "━━━━╸    40%".
BAR = re.compile(r"(\d{1,3})%\|[^|\n]*\||[━╸╺][^\n%]*?(\d{1,3})%")


@dataclass(frozen=True)
class Problem:
    """One thing that is wrong with a run.

    kind: error, timeout, kernel, claim, prose, widget, stderr, progress, alt, missing, exercise or
    slow. cell: id of the cell, where one is to blame. claim: id, where it is about one. lines: the
    last lines that help.
    """

    kind: str
    message: str
    cell: str | None = None
    claim: str | None = None
    lines: list[str] = field(default_factory=list)

    @property
    def fatal(self) -> bool:
        return self.kind != "slow"


def audit(notebook: NotebookNode, stderr: str, budget: float) -> list[Problem]:
    """Everything wrong with a notebook that ran to its end as far as papermill knows.

    stderr: what its kernel and the processes it started wrote there, echoed by the kernel.
    budget: seconds a cell may take, unless its metadata has its own.
    """
    widgets = notebook.metadata.get("widgets", {}).get(WIDGETS, {}).get("state", {})
    owners = _owners(notebook, widgets)
    problems: list[Problem] = []
    for cell in notebook.cells:
        if cell.cell_type == "markdown":
            problems += _pictures(render(cell.source), cell.id)
        elif cell.cell_type == "code" and cell.source.strip():
            problems += _unfinished(cell)
            problems += _in_outputs(cell.outputs, cell.id)
            problems += _slow(cell, budget)
    for model, widget in widgets.items():
        problems += _in_widget(widget, owners.get(model))

    shown = "\n".join(line for problem in problems for line in problem.lines)
    problems += [
        Problem("stderr", _headline(trace), lines=trace) for trace in _tracebacks(stderr) if trace[-1] not in shown
    ]
    return problems


def measurements(notebook: NotebookNode) -> dict[str, list[float]]:
    """Claim id -> the values recorded for it, in order."""
    values: dict[str, list[float]] = {}
    for _, record in _records(notebook, MEASUREMENT):
        values.setdefault(record["claim"], []).append(record["value"])
    return values


def exercise_problems(notebook: NotebookNode, solved: bool) -> list[Problem]:
    """Whether every exercise was judged, and passed if it was solved, or else did not pass."""
    problems: list[Problem] = []
    waiting: NotebookNode | None = None  # the exercise that no verdict has followed yet
    for cell in notebook.cells:
        if "exercise" in cell.metadata.get("tags", []):
            if waiting is not None:
                problems.append(Problem("exercise", "no verdict follows this exercise", waiting.id))
            waiting = cell
        for record in _records_of(cell, VERDICT):
            waiting = None
            if record["passed"] != solved:
                state = "fails with its solution" if solved else "passes without a solution"
                problems.append(
                    Problem("exercise", f"exercise {record['exercise']!r} {state}: {record['text']}", cell.id)
                )
    if waiting is not None:
        problems.append(Problem("exercise", "no verdict follows this exercise", waiting.id))
    return problems


def last_lines(text: str) -> list[str]:
    return ANSI.sub("", text).splitlines()[-LAST_LINES:]


def _records(notebook: NotebookNode, kind: str) -> Iterator[tuple[NotebookNode, dict[str, Any]]]:
    return ((cell, record) for cell in notebook.cells for record in _records_of(cell, kind))


def _records_of(cell: NotebookNode, kind: str) -> Iterator[dict[str, Any]]:
    return (output.data[kind] for output in cell.get("outputs", []) if kind in output.get("data", {}))


def _unfinished(cell: NotebookNode) -> Iterator[Problem]:
    exits = [output for output in cell.outputs if output.output_type == "error"]
    if exits:
        yield Problem("missing", f"{exits[0].ename} ends the notebook here, and papermill calls that success", cell.id)
    elif cell.execution_count is None:
        yield Problem("missing", "this cell never ran", cell.id)


def _slow(cell: NotebookNode, budget: float) -> Iterator[Problem]:
    allowed = cell.metadata.get("covlab", {}).get("budget", budget)
    took = cell.metadata.get("papermill", {}).get("duration") or 0
    if took > allowed:
        yield Problem("slow", f"this cell took {took:.1f} s, its budget is {allowed:g} s", cell.id)


def _in_outputs(outputs: Sequence[Mapping[str, Any]], cell: str | None) -> Iterator[Problem]:
    """What is wrong with the outputs of a cell, or those inside an Output widget."""
    # A stream arrives in pieces, which may part a traceback, or a bar's first state from its last.
    streams = {
        name: "".join(output["text"] for output in outputs if output.get("name") == name)
        for name in ("stdout", "stderr")
    }
    for trace in _tracebacks(streams["stderr"]):
        yield Problem("stderr", _headline(trace), cell, lines=trace)
    texts = list(streams.values())
    for data in (output.get("data", {}) for output in outputs):
        texts += [data.get("text/plain", ""), _text(data.get("text/html", ""))]
        if "text/html" in data:
            yield from _pictures(data["text/html"], cell)
        elif any(kind.startswith("image/") for kind in data):
            yield Problem(
                "alt", "a picture without alternative text; show it with covlab.plots.show(figure, alt)", cell
            )
    stuck = [share for text in texts for share in _unfinished_bars(ANSI.sub("", text))]
    if stuck:
        yield Problem("progress", f"a progress bar stays at {min(stuck)} % in the saved notebook", cell)


def _in_widget(widget: Mapping[str, Any], cell: str | None) -> Iterator[Problem]:
    name, state = widget["model_name"], widget["state"]
    if name == "OutputModel":
        outputs = state.get("outputs", [])
        for output in outputs:
            if output["output_type"] == "error":
                yield Problem(
                    "widget",
                    f"a widget hides {output['ename']}: {output['evalue']}",
                    cell,
                    lines=last_lines("\n".join(output["traceback"])),
                )
        yield from _in_outputs(outputs, cell)
    if name in ("IntProgressModel", "FloatProgressModel"):
        value, end = state.get("value", 0), state.get("max", 100)
        if value < end:
            yield Problem("progress", f"a progress bar stays at {value:g} of {end:g}", cell)
    if name == "ImageModel":
        yield Problem("alt", "an Image widget has no alternative text; use an HTML widget with <img alt=…>", cell)
    if name in ("HTMLModel", "HTMLMathModel"):
        if shown := EXPLORER_ERROR.search(state.get("value", "")):
            yield Problem(
                "widget", f"an explorer shows {unescape(shown[1])}", cell, lines=last_lines(_text(shown.string))
            )
        yield from _pictures(state.get("value", ""), cell)


def _pictures(html: str, cell: str | None) -> Iterator[Problem]:
    if any(not (image.alt or "").strip() for image in images(html)):
        yield Problem("alt", "an <img> without alternative text", cell)


def _tracebacks(text: str) -> Iterator[list[str]]:
    """The last lines of every traceback in some stderr, from its head to the exception."""
    lines = ANSI.sub("", text).splitlines()
    for start, line in enumerate(lines):
        if TRACEBACK in line:
            end = next((n for n in range(start + 1, len(lines)) if not lines[n].startswith(" ")), len(lines) - 1)
            if not any(KERNEL_ENDS.search(frame) for frame in lines[start:end]):
                yield lines[max(start - 1, end + 1 - LAST_LINES, 0) : end + 1]


def _headline(trace: list[str]) -> str:
    return f"stderr has a traceback, although the cell went on: {trace[-1]}"


def _unfinished_bars(text: str) -> list[int]:
    last_states = [line.rpartition("\r")[2] for line in text.rstrip("\r").split("\n")]
    shares = [int(one or other) for line in last_states for one, other in BAR.findall(line)]
    return [share for share in shares if share < 100]


def _owners(notebook: NotebookNode, widgets: Mapping[str, Any]) -> dict[str, str]:
    """Widget model -> the cell that shows it, directly or inside another widget."""
    owners: dict[str, str] = {}
    for cell in notebook.cells:
        todo = [output.data[VIEW]["model_id"] for output in cell.get("outputs", []) if VIEW in output.get("data", {})]
        while todo:
            model = todo.pop()
            if model in widgets and model not in owners:
                owners[model] = cell.id
                todo += re.findall(r"IPY_MODEL_(\w+)", str(widgets[model]["state"]))
    return owners


def _text(html: str) -> str:
    """HTML without its tags."""
    reader = _Text()
    reader.feed(html)
    reader.close()
    return "".join(reader.parts)


class _Text(HTMLParser):
    """Collects what stands between the tags."""

    def __init__(self) -> None:
        super().__init__()
        self.parts: list[str] = []

    def handle_data(self, data: str) -> None:
        self.parts.append(data)
