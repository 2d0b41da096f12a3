"""The course: lessons as text, their editions as notebooks, and the runner that checks them.

Lessons import from here: `measure` for claims, `check` for exercises, `band` to compare a run with correct runs, and
the other names in `_ELSEWHERE`. What `measure` and `check` record is stored in the executed notebook, as an output of
the cell that called them.
"""

import math
import os
from html import escape
from importlib import import_module
from typing import Any, SupportsFloat

from covlab.markup import marked

MEASUREMENT = "application/vnd.covlab.measurement+json"  # {"claim": str, "value": float}
MARK = "COVLAB_LESSON"  # environment variable of a lesson that the runner executes; its value is its scratch folder
VERDICT = "application/vnd.covlab.verdict+json"  # {"exercise": str, "passed": bool, "text": str}
WIDGET_ERROR = "data-covlab-error"  # HTML attribute that holds the error an explorer shows, such as "KeyError: 'x'"

# {name: its module}. A module is imported at the first use of a name, so the runner starts without torch.
_ELSEWHERE = {
    "check": "checking",
    "predict": "predictions",
    "outcome": "predictions",
    "choose_device": "environment",
    "choose_scenario": "environment",
    "show_machine": "environment",
    "show_progress": "student_record",
    "band": "reference_band",
    "reference_trainer": "reference_band",
}
_STYLES = {
    "good": ("#009E73", "✓"),
    "open": ("#D55E00", "◯"),
    "plain": ("#0072B2", ""),
}  # {style: (color, sign)}; the sign is for readers who cannot see colors


def __getattr__(name: str) -> Any:
    if name in _ELSEWHERE:
        return getattr(import_module(f"covlab.course.{_ELSEWHERE[name]}"), name)
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")


def __dir__() -> list[str]:
    return sorted({*globals(), *_ELSEWHERE})


def measure(claim: str, value: SupportsFloat) -> None:
    """Record what this run measured for a claim of lessons/claims.toml. Outside of the course's runner, do nothing.

    claim: its id, such as "06.gradient_ratio". value: a finite number, or an array or tensor of one number.
    Raises TypeError if ``value`` is not one number, ValueError for NaN and infinities.
    """
    try:
        number = float(value)
    except (TypeError, ValueError, RuntimeError) as error:
        raise TypeError(f"measure({claim!r}, …): value is {type(value).__name__}, expected one number") from error
    if not math.isfinite(number):
        raise ValueError(f"measure({claim!r}, …): value is {number}, expected a finite number")
    if MARK in os.environ:
        from IPython.display import display

        display({MEASUREMENT: {"claim": claim, "value": number}}, raw=True)  # without text, so a reader sees nothing


def verdict(exercise: str, passed: bool, text: str) -> None:
    """Record and show whether the answer to an exercise is correct; ``text`` says why, or what to look at."""
    _show(VERDICT, {"exercise": exercise, "passed": bool(passed), "text": text}, text)


def card(
    title: str, lines: list[str], style: str, *, record: dict | None = None, code: str = "", folded: str = ""
) -> None:
    """Show a few sentences in a frame, and as plain text.

    style: "good", "open" or "plain". record: a verdict for the runner. code: shown below the sentences, unchanged.
    folded: what a page shows in place of the card until a reader opens it.
    """
    color, sign = _STYLES[style]
    title = f"{sign} {title}".strip()
    body = "".join(f"<p style='margin: .3em 0'>{marked(line)}</p>" for line in lines)
    if code:
        body += f"<pre style='margin: .5em 0; white-space: pre; overflow-x: auto'>{escape(code)}</pre>"
    frame = f"border-left: 4px solid {color}; padding: .2em .9em; margin: .6em 0; max-width: 48em"
    html = f"<div style='{frame}'><b>{escape(title)}</b>{body}</div>"
    if folded:
        html = f"<details><summary>{escape(folded)}</summary>{html}</details>"
    _show(VERDICT if record else None, record, "\n".join([title, *lines, *code.splitlines()]), html)


def _show(kind: str | None, record: dict | None, text: str, html: str | None = None) -> None:
    from IPython.display import display

    bundle = {kind: record} if kind else {}
    display(bundle | {"text/plain": text} | ({"text/html": html} if html else {}), raw=True)
