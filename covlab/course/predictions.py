"""Predictions: `predict` asks before an experiment, and `outcome` shows the answer to readers who have answered.

A prediction may change until its outcome has been shown; then the record keeps it. Whoever has not predicted is asked
to, and sees no outcome. Where nobody can answer (a website, a report, papermill), the outcome is folded.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from html import escape
from typing import Any

from covlab.course import card, student_record
from covlab.markup import marked

FOLDED = "The outcome: answer the question first, then open this."
UNANSWERED = "Answer the question above first, then run this cell."


@dataclass
class _Question:
    """A question that was asked in this kernel. radio, note: its widgets."""

    text: str
    choices: list[str]
    radio: Any
    note: Any

    def show(self, record: dict[str, Any] | None) -> None:
        """Show what the record has: which choice, and whether it may still change."""
        self.radio.value = record["choice"] if record else None
        self.radio.disabled = bool(record and record["outcome_shown"])
        if not record:
            text = "Choose one before you continue."
        elif record["outcome_shown"]:
            text = f"You predicted: {record['choice']}. You have seen the outcome, so your prediction stays."
        else:
            text = f"You predict: {record['choice']}. You can change this until you see the outcome."
        self.note.value = f'<span role="status">{escape(text)}</span>'  # a screen reader announces changes


_asked: dict[str, _Question] = {}


def predict(question: str, text: str, choices: Sequence[str]) -> None:
    """Ask for a prediction, with no choice selected at first, and remember the choice for `outcome`.

    In a run without a person the choices are shown as a list. question: its id, "NN.name". text: the question, or the
    beginning of a sentence. choices: the answers, or the ways to complete the sentence.
    Raises ValueError for fewer than two choices, or two equal ones.
    """
    choices = list(choices)
    if len(choices) < 2 or len(set(choices)) < len(choices) or not all(isinstance(each, str) for each in choices):
        raise ValueError(f"predict({question!r}, …): choices must be two or more different texts, got {choices!r}")
    import ipywidgets

    from covlab.course.widget_output import show_widget

    radio = ipywidgets.RadioButtons(
        options=choices,
        value=None,
        description="I predict:",
        layout=ipywidgets.Layout(width="max-content"),
        style={"description_width": "initial"},
    )
    asked = _asked[question] = _Question(text, choices, radio, ipywidgets.HTML())
    asked.show(_answer(question, choices))

    def remember(change: dict[str, str]) -> None:
        before = _answer(question, choices)
        if not (before and before["choice"] == change["new"]):
            asked.show(student_record.remember_prediction(question, change["new"], choices))

    radio.observe(remember, names="value")
    heading = f"<b>Predict.</b> {marked(text)}"
    box = ipywidgets.VBox([ipywidgets.HTML(heading), radio, asked.note])
    box.add_class("covlab-predict")
    still = (
        f"<p>{heading}</p><ul>{''.join(f'<li>{escape(each)}</li>' for each in choices)}</ul>"
        "<p>Run this cell to answer.</p>"
    )
    plain = "\n".join([f"Predict. {text}", *(f"  ( ) {each}" for each in choices)])
    show_widget(box, still, plain)


def outcome(question: str, happened: str, because: str = "") -> None:
    """Show the prediction next to ``happened``, the choice that came true (let the lesson compute it).

    because: the explanation, which is shown with the answer. A reader who has not answered is asked to, and sees
    neither. In a run without a person both are shown, folded on a page.
    Raises ValueError if ``happened`` is none of the choices.
    """
    asked = _asked.get(question)
    if asked and happened not in asked.choices:
        expected = ", ".join(map(repr, asked.choices))
        raise ValueError(f"outcome({question!r}, …): got {happened!r}, expected one of {expected}")
    lines = [asked.text] if asked else []
    record = _answer(question, asked.choices if asked else None)
    if record:
        same = record["choice"] == happened
        how = "It came out as you predicted." if same else f"It came out differently: {happened}."
        card(
            f"Outcome: {happened}",
            [*lines, f"You predicted: {record['choice']}. {how}", *filter(None, [because])],
            "good" if same else "plain",
        )
        record = student_record.remember_outcome(question)
        if asked:
            asked.show(record)
    elif _someone_is_here():
        card("You have not predicted yet", [*lines, UNANSWERED], "open")
    else:
        card(f"Outcome: {happened}", [*lines, *filter(None, [because])], "plain", folded=FOLDED)


def _answer(question: str, choices: Sequence[str] | None) -> dict[str, Any] | None:
    """Return the record of a prediction; None if there is none, or if it is none of the choices any more."""
    record = student_record.prediction(question)
    return record if record and (choices is None or record["choice"] in choices) else None


def _someone_is_here() -> bool:
    """Return whether a person can answer: a front end accepts input; nbclient (papermill, nbconvert) does not."""
    from IPython import get_ipython

    kernel = getattr(get_ipython(), "kernel", None)
    return bool(kernel and kernel.get_parent().get("content", {}).get("allow_stdin"))
