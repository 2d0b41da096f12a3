"""The course: lessons as text, their editions as notebooks, and the runner that proves them.

A lesson needs two names from here, `measure` and `verdict`. What they record travels in the
executed notebook itself, as an output of the cell that called them.
"""

import math

MEASUREMENT = "application/vnd.covlab.measurement+json"  # {"claim": str, "value": float}
VERDICT = "application/vnd.covlab.verdict+json"          # {"exercise": str, "passed": bool, "text": str}
WIDGET_ERROR = "data-covlab-error"  # attribute of the HTML by which an explorer shows an error: "KeyError: 'x'"


def measure(claim: str, value) -> None:
    """Record what this run measured for a claim of lessons/claims.toml, and show it below the cell.

    claim: its id, such as "06.gradient_ratio". value: a finite number, or an array or tensor of one.
    Raises TypeError for what is no number, ValueError for NaN and infinities.
    """
    try:
        number = float(value)
    except (TypeError, ValueError, RuntimeError) as error:
        raise TypeError(f"measure({claim!r}, …): value is {type(value).__name__}, expected one number") from error
    if not math.isfinite(number):
        raise ValueError(f"measure({claim!r}, …): value is {number}, expected a finite number")
    _show(MEASUREMENT, {"claim": claim, "value": number}, f"measured {claim} = {number:.4g}")


def verdict(exercise: str, passed: bool, text: str) -> None:
    """Record and show whether the answer to an exercise is right; `text` says why or what to look at."""
    _show(VERDICT, {"exercise": exercise, "passed": bool(passed), "text": text}, text)


def _show(kind: str, record: dict, text: str) -> None:
    from IPython.display import display

    display({kind: record, "text/plain": text}, raw=True)
