"""Predictions: asked before the experiment, shown again beside its outcome.

Both work without a click: in a run without a person the choices stand there as a list, and the outcome says that
nobody predicted it.
"""

from collections.abc import Sequence
from html import escape

from covlab.course import card, student_record
from covlab.markup import marked

_asked: dict[str, tuple[str, list[str]]] = {}  # text and choices of the questions asked in this kernel


def predict(question: str, text: str, choices: Sequence[str]) -> None:
    """Ask for a prediction; none is chosen beforehand, and the choice is remembered until `outcome`.

    question: its id, "NN.name". text: the question, or a sentence's beginning. choices: how it may go on.
    Raises ValueError for fewer than two choices, or two alike.
    """
    choices = list(choices)
    if len(choices) < 2 or len(set(choices)) < len(choices) or not all(isinstance(each, str) for each in choices):
        raise ValueError(f"predict({question!r}, …): choices must be two or more different texts, got {choices!r}")
    import ipywidgets
    from IPython.display import display

    _asked[question] = (text, choices)
    before = student_record.prediction(question)
    radio = ipywidgets.RadioButtons(
        options=choices,
        value=before if before in choices else None,
        description="I predict:",
        layout=ipywidgets.Layout(width="max-content"),
        style={"description_width": "initial"},
    )
    note = ipywidgets.HTML(_noted(radio.value))

    def remember(change: dict[str, str]) -> None:
        student_record.remember_prediction(question, change["new"])
        note.value = _noted(change["new"])

    radio.observe(remember, names="value")
    box = ipywidgets.VBox([ipywidgets.HTML(f"<b>Predict.</b> {marked(text)}"), radio, note])
    box.add_class("covlab-predict")
    # One output with two faces: the control where there is a kernel, the list of choices on a page without one.
    still = f"<p><b>Predict.</b> {marked(text)}</p><ul>{''.join(f'<li>{escape(each)}</li>' for each in choices)}</ul>"
    plain = f"Predict. {text}\n" + "\n".join(f"  ( ) {each}" for each in choices)
    display(box._repr_mimebundle_() | {"text/html": still, "text/plain": plain}, raw=True)


def outcome(question: str, happened: str, because: str = "") -> None:
    """Show what was predicted beside what happened, which is one of the choices, best computed by the lesson.

    Raises ValueError when `happened` is none of the choices.
    """
    text, choices = _asked.get(question, ("", [happened]))
    if happened not in choices:
        raise ValueError(f"outcome({question!r}, …): got {happened!r}, expected one of {', '.join(map(repr, choices))}")
    predicted = student_record.prediction(question)
    if predicted is None:
        lines = ["You made no prediction. A guess made beforehand makes an outcome stick."]
    elif predicted == happened:
        lines = [f"You predicted: {predicted}. So it was."]
    else:
        lines = [f"You predicted: {predicted}. It came out differently, and that is where there is something to learn."]
    card(
        f"Outcome: {happened}",
        list(filter(None, [text, *lines, because])),
        "good" if predicted == happened else "plain",
    )


def _noted(choice: str | None) -> str:
    said = f"Noted: {escape(choice)}." if choice else "Choose one before you go on."
    return f'<span role="status">{said}</span>'  # read aloud when it changes
