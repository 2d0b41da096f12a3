"""Find failures in an executed notebook that papermill does not report.

papermill knows one kind of failure: an error among the outputs of a cell. But widgets keep errors in their state,
threads and child processes write theirs to stderr, `sys.exit(0)` ends a notebook early and counts as success, a
progress bar may stay at 0 %, and a picture may have no text for a reader who cannot see it.

What is not found: the exit code of a program that the lesson starts with `Popen`, `os.system` or `multiprocessing`
and does not look at, unless it prints a traceback.
"""

import math
import re
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from bs4 import BeautifulSoup, Tag
from nbconvert.filters import strip_ansi
from nbformat import NotebookNode

from covlab.course import MEASUREMENT, VERDICT, WIDGET_ERROR
from covlab.course.lesson_kernel import HIDDEN
from covlab.course.prose import render

TRACEBACK = "Traceback (most recent call last)"
# A traceback of ipykernel itself, not of the lesson. When the kernel ends, its main thread may close the output channel
# before its control thread has flushed it. No code of a lesson runs in the control thread.
KERNEL_ENDS = re.compile(r'ipykernel/kernelbase\.py", line \d+, in process_control')
WIDGETS = "application/vnd.jupyter.widget-state+json"
VIEW = "application/vnd.jupyter.widget-view+json"
# rich's traceback, in a frame.
FRAMED_TRACEBACK = re.compile(r"╭─+ Traceback \(most recent call last\)")
# numpy's warnings that a number is no longer one, and asyncio's that something was never run to its end.
LOST_NUMBER = re.compile(
    r"RuntimeWarning: (invalid value|divide by zero|overflow) encountered|RuntimeWarning: (Mean of empty|All-NaN|.*NaN)"
)
UNFINISHED = re.compile(r"RuntimeWarning: coroutine .* was never awaited|Task was destroyed but it is pending")
PICTURES = ["img", "svg", "canvas"]
LAST_LINES = 12
LONGEST = 2000  # characters of a message, and of a line of output
# A progress bar: tqdm's "40%|████" or rich's "━━━━╸    40%".
BAR = re.compile(r"(\d{1,3})%\|[^|\n]*\||[━╸╺][^\n%]*?(\d{1,3})%")


@dataclass(frozen=True)
class Problem:
    """One thing that is wrong with a run.

    kind: error, timeout, kernel, claim, prose, print, widget, stderr, progress, alt, missing, exercise or slow. cell:
    id of the cell that causes it, if known. claim: id of the claim it is about, if any. lines: the last lines of
    output.
    """

    kind: str
    message: str
    cell: str | None = None
    claim: str | None = None
    lines: list[str] = field(default_factory=list)

    def __post_init__(self) -> None:
        object.__setattr__(self, "message", _writable(self.message))
        object.__setattr__(self, "lines", [_writable(line) for line in self.lines])

    @property
    def fatal(self) -> bool:
        return self.kind != "slow"


@dataclass(frozen=True)
class Record:
    """What a lesson's kernel sent as a measurement or a verdict; nothing about ``data`` is certain.

    kind: MEASUREMENT or VERDICT. cell: id of the cell that sent it.
    """

    kind: str
    cell: str | None
    data: object


def audit(notebook: NotebookNode, stderr: str, budget: float) -> list[Problem]:
    """Return everything wrong with a notebook for which papermill reports no error.

    stderr: what its kernel, and the processes that the kernel started, wrote to stderr.
    budget: seconds a cell may take, unless its metadata has its own.
    """
    widgets = notebook.metadata.get("widgets", {}).get(WIDGETS, {}).get("state", {})
    owners = _owners(notebook, widgets)
    problems: list[Problem] = []
    for cell in notebook.cells:
        if cell.cell_type == "markdown":
            problems += _pictures(render(cell.source), cell.id)
        elif cell.cell_type == "code" and cell.source.strip():
            problems += _in_execution(cell, budget)
            problems += _in_outputs(cell.outputs, cell.id)
    for model, widget in widgets.items():
        problems += _in_widget(widget, owners.get(model))

    shown = "\n".join(line for problem in problems for line in problem.lines)
    return problems + [problem for problem in _on_stderr(stderr, None) if problem.lines[-1] not in shown]


def measurements(records: Iterable[Record]) -> tuple[dict[str, list[float]], list[Problem]]:
    """Return the values recorded for each claim id, in order, and a problem for each record that is not one."""
    values: dict[str, list[float]] = {}
    problems = []
    for record in records:
        if record.kind != MEASUREMENT:
            continue
        match record.data:
            case {"claim": str(claim), "value": int() | float() as value} if _is_finite(value):
                values.setdefault(claim, []).append(float(value))
            case other:
                message = f"a measurement is {_short(other)}, expected a claim and a finite value"
                problems.append(Problem("claim", message, record.cell))
    return values, problems


def exercise_problems(cells: Sequence[NotebookNode], records: Iterable[Record], solved: bool) -> list[Problem]:
    """Check that every exercise has a verdict: passed if it was solved, not passed otherwise."""
    problems: list[Problem] = []
    waiting: list[str] = []  # id of the exercise cell that still waits for its verdict; at most one
    verdicts: dict[str | None, list[Record]] = {}
    for record in records:
        if record.kind == VERDICT:
            verdicts.setdefault(record.cell, []).append(record)
    for cell in cells:
        if "exercise" in cell.metadata.get("tags", []):
            problems += [Problem("exercise", "no verdict follows this exercise", id) for id in waiting]
            waiting = [cell.id]
        for record in verdicts.get(cell.id, []):
            match record.data:
                case {"exercise": str(exercise), "passed": bool(passed), "text": str(text)}:
                    waiting = []
                    if passed != solved:
                        state = "fails with its solution" if solved else "passes without a solution"
                        problems.append(Problem("exercise", f"exercise {exercise!r} {state}: {text}", cell.id))
                case other:
                    message = f"a verdict is {_short(other)}, expected an exercise, whether it passed, and a text"
                    problems.append(Problem("exercise", message, cell.id))
    return problems + [Problem("exercise", "no verdict follows this exercise", id) for id in waiting]


def _writable(text: str) -> str:
    """Return the text without lone surrogates, which no encoding has, and not longer than a person reads."""
    text = text.encode("utf-8", "backslashreplace").decode()
    return text if len(text) <= LONGEST else f"{text[: LONGEST // 2]} … {text[-LONGEST // 2 :]}"


def last_lines(text: str) -> list[str]:
    return strip_ansi(text).splitlines()[-LAST_LINES:]


def _is_finite(value: float) -> bool:
    try:
        return not isinstance(value, bool) and math.isfinite(value)
    except OverflowError:  # an int beyond every float
        return False


def _short(data: object) -> str:
    text = repr(data)
    return text if len(text) <= 200 else f"{text[:200]}…"


def _in_execution(cell: NotebookNode, budget: float) -> Iterator[Problem]:
    """Yield a problem if a cell ended the notebook, never ran, or took longer than its budget."""
    exits = [output.ename for output in cell.outputs if output.output_type == "error"]
    if exits:
        yield Problem("missing", f"{exits[0]} ends the notebook here, and papermill calls that success", cell.id)
    elif cell.execution_count is None:
        yield Problem("missing", "this cell never ran", cell.id)
    allowed = cell.metadata.get("covlab", {}).get("budget", budget)
    took = cell.metadata.get("papermill", {}).get("duration") or 0
    if took > allowed:
        yield Problem("slow", f"this cell took {took:.1f} s, its budget is {allowed:g} s", cell.id)


def _in_outputs(outputs: Sequence[Mapping[str, Any]], cell: str | None) -> Iterator[Problem]:
    """Yield what is wrong with the outputs of a cell or of an Output widget."""
    # A stream arrives in pieces, which may split a traceback, or separate a bar's first state from its last.
    streams = {
        name: "".join(output["text"] for output in outputs if output.get("name") == name)
        for name in ("stdout", "stderr")
    }
    yield from _on_stderr(streams["stderr"], cell)
    texts = list(streams.values())
    for data in (output.get("data", {}) for output in outputs):
        texts.append(data.get("text/plain", ""))
        if "text/html" in data:
            text = BeautifulSoup(data["text/html"], "html.parser").text
            texts.append(text)
            yield from _pictures(data["text/html"], cell)
            if FRAMED_TRACEBACK.search(text):
                yield Problem("error", "an output shows a traceback", cell, lines=last_lines(text))
        elif "text/markdown" in data:
            yield from _pictures(render(data["text/markdown"]), cell)
        elif any(kind.startswith("image/") for kind in data):
            yield Problem(
                "alt", "a picture without alternative text; show it with covlab.plots.show(figure, alt)", cell
            )
    stuck = [share for text in texts for share in _unfinished_bars(strip_ansi(text))]
    if stuck:
        yield Problem("progress", f"a progress bar stays at {min(stuck)} % in the saved notebook", cell)


def _in_widget(widget: Mapping[str, Any], cell: str | None) -> Iterator[Problem]:
    name, state = widget["model_name"], widget["state"]
    if name == "OutputModel":
        outputs = state.get("outputs", [])
        for output in outputs:
            if output["output_type"] == "error":
                message = f"a widget hides {output['ename']}: {output['evalue']}"
                yield Problem("widget", message, cell, lines=last_lines("\n".join(output["traceback"])))
        yield from _in_outputs(outputs, cell)
    if name in ("IntProgressModel", "FloatProgressModel"):
        value, end = state.get("value", 0), state.get("max", 100)
        if value < end:
            yield Problem("progress", f"a progress bar stays at {value:g} of {end:g}", cell)
    if name == "ImageModel":
        yield Problem("alt", "an Image widget has no alternative text; use an HTML widget with <img alt=…>", cell)
    if name in ("HTMLModel", "HTMLMathModel"):
        page = BeautifulSoup(state.get("value", ""), "html.parser")
        if failed := page.select_one(f"[{WIDGET_ERROR}]"):
            yield Problem("widget", f"an explorer shows {failed[WIDGET_ERROR]}", cell, lines=last_lines(page.text))
        yield from _pictures(state.get("value", ""), cell)


def _pictures(html: str, cell: str | None) -> Iterator[Problem]:
    """Yield a problem for each kind of picture that has no words for a reader who cannot see it."""
    page = BeautifulSoup(html, "html.parser")
    for name in PICTURES:
        if not all(map(_has_words, page(name))):
            yield Problem("alt", f"an <{name}> without alternative text", cell)


def _has_words(picture: Tag) -> bool:
    if picture.find_parent(PICTURES):  # the outer one has the words
        return True
    if picture.get("aria-hidden") == "true" or picture.get("role") == "presentation":
        return picture.name != "img"
    named = [picture.get(key) for key in ("alt", "aria-label", "aria-labelledby")]
    if picture.name == "svg":
        named += [title.text for title in picture(["title", "desc"])]
    elif picture.name == "canvas":
        named.append(picture.text)
    return any(str(words or "").strip() for words in named)


def _on_stderr(text: str, cell: str | None) -> Iterator[Problem]:
    """Yield a problem for every traceback, every failure that the kernel reports, and some warnings."""
    yield from _tracebacks(text, cell)
    for line in dict.fromkeys(strip_ansi(text).splitlines()):
        if line.startswith(HIDDEN):
            yield Problem("stderr", line.removeprefix(HIDDEN), cell, lines=[line])
        elif LOST_NUMBER.search(line) or UNFINISHED.search(line):
            yield Problem("stderr", f"stderr has a warning: {line.strip()}", cell, lines=[line])


def _tracebacks(text: str, cell: str | None) -> Iterator[Problem]:
    """Yield a problem for every traceback in the text of a stderr, with its last lines up to the exception."""
    lines = strip_ansi(text).splitlines()
    for start, line in enumerate(lines):
        if TRACEBACK in line:
            end = next((n for n in range(start + 1, len(lines)) if not lines[n].startswith(" ")), len(lines) - 1)
            if not any(KERNEL_ENDS.search(frame) for frame in lines[start:end]):
                trace = lines[max(start - 1, end + 1 - LAST_LINES, 0) : end + 1]
                message = f"stderr has a traceback, although the cell went on: {trace[-1]}"
                yield Problem("stderr", message, cell, lines=trace)


def _unfinished_bars(text: str) -> list[int]:
    last_states = [line.rpartition("\r")[2] for line in text.rstrip("\r").split("\n")]
    shares = [int(one or other) for line in last_states for one, other in BAR.findall(line)]
    return [share for share in shares if share < 100]


def _owners(notebook: NotebookNode, widgets: Mapping[str, Any]) -> dict[str, str]:
    """Return for each widget model the cell that shows it, directly or inside another widget."""
    owners: dict[str, str] = {}
    for cell in notebook.cells:
        todo = [output.data[VIEW]["model_id"] for output in cell.get("outputs", []) if VIEW in output.get("data", {})]
        while todo:
            model = todo.pop()
            if model in widgets and model not in owners:
                owners[model] = cell.id
                todo += re.findall(r"IPY_MODEL_(\w+)", str(widgets[model]["state"]))
    return owners
