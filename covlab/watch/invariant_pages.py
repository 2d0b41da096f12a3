"""A page in Markdown about every invariant, made from its class and its file.

A text that a class has besides those that every invariant has, such as an explanation or an example, becomes a section
of its page, under the name of the attribute.
"""

import ast
import inspect
import re
import sys
import textwrap
from collections.abc import Iterator
from types import ModuleType

from covlab.watch import blind_spots
from covlab.watch.invariants import INVARIANTS, TITLES, Invariant
from covlab.watch.invariants.framework_advice import Action, advice_by_framework
from covlab.watch.seen.observation import OBSERVED

UNSEEN = """The report begins with this note if the watch did not see the training, or not all of it. Then an empty
report does not mean that the loop is correct. The exit status is 3."""
OWN_SECTION = {"code", "title", "nothing_to_check"}  # texts that have their place on every page


def invariant_pages() -> dict[str, str]:
    """Return {code: Markdown}, W00 first. Pages link to each other as ``W01.md``."""
    return {blind_spots.CODE: _blind_spot_page()} | {each.code: invariant_page(each) for each in INVARIANTS}


def invariant_page(invariant: type[Invariant]) -> str:
    """Return what an invariant means, what to do about a finding, and when it is not checked, as Markdown."""
    module = sys.modules[invariant.__module__]
    parts = [f"# {_heading(invariant.code, invariant.title)}", *_meaning(module, invariant)]
    for name, text in _texts(invariant):
        if name not in OWN_SECTION and not name.startswith("fix"):
            parts += [f"## {name.replace('_', ' ').capitalize()}", _text_or_code(text)]
    fixes = [text for name, text in _texts(invariant) if name.startswith("fix")]
    fixes += [text for name, text in vars(module).items() if name.startswith("FIX") and isinstance(text, str)]
    if fixes:
        parts += ["## What to do", _list(_readable(text) for text in dict.fromkeys(fixes))]
    actions = invariant.actions | getattr(module, "ACTIONS", {})
    parts += _in_frameworks(tuple(dict.fromkeys(actions.values())))
    if invariant.consequences:
        follows = _list(_link(code) for code in invariant.consequences)
        parts += ["## What follows from it", "A fault here explains findings about these invariants:", follows]
    parts += ["## When it is not checked", _list(_not_checked(invariant))]
    return "\n\n".join(parts) + "\n"


def _blind_spot_page() -> str:
    """Return the page about W00, which is no invariant of the loop."""
    readings = [inspect.getdoc(reading) for reading in blind_spots.READINGS]
    return "\n\n".join(
        [
            f"# {_heading(blind_spots.CODE, blind_spots.TITLE)}",
            UNSEEN,
            "## What may be the reason",
            _list(text.partition("\n")[0] for text in readings if text),
        ]
    )


def _meaning(module: ModuleType, invariant: type[Invariant]) -> Iterator[str]:
    """Yield the paragraphs of the file's and the class's own explanation, without the line that repeats the title."""
    for documented in (module.__doc__, vars(invariant).get("__doc__")):
        text = re.sub(r"\AW\d\d: .*?(\n\n|\Z)", "", _paragraphs(documented), flags=re.DOTALL)
        if text:
            yield text


def _texts(invariant: type[Invariant]) -> Iterator[tuple[str, str]]:
    """Yield the names and values of an invariant's own public texts, in the order of the class."""
    classes = [each for each in reversed(invariant.__mro__) if issubclass(each, Invariant) and each is not Invariant]
    texts = {name: value for each in classes for name, value in vars(each).items() if not name.startswith("_")}
    yield from ((name, value) for name, value in texts.items() if isinstance(value, str) and value.strip())


def _in_frameworks(actions: tuple[Action, ...]) -> Iterator[str]:
    advice: dict[str, list[str]] = {}
    for action in actions:
        for framework, text in advice_by_framework(action).items():
            advice.setdefault(framework, []).append(_readable(text))
    if advice:
        yield "## Where a framework runs the loop"
        yield "\n".join(f"- **{name}**: {'; or: '.join(texts)}" for name, texts in advice.items())


def _not_checked(invariant: type[Invariant]) -> Iterator[str]:
    if invariant.nothing_to_check:
        yield invariant.nothing_to_check
    parts = [OBSERVED[part] for part in ("step", *invariant.needs)]
    yield f"the watch could not see {', '.join(parts[:-1])}{' or ' if parts[1:] else ''}{parts[-1]}"


def _heading(code: str, title: str) -> str:
    return f"{code} · {title[0].upper()}{title[1:]}"


def _link(code: str) -> str:
    return f"[{_heading(code, TITLES[code])}]({code}.md)"


def _list(items: Iterator[str]) -> str:
    return "\n".join(f"- {item[0].upper()}{item[1:]}" if not item.startswith("[") else f"- {item}" for item in items)


def _readable(advice: str) -> str:
    """Return advice as Markdown: code as code, and n for the number of micro-batches."""
    return _with_code(advice.replace("{0}", "n"))


def _text_or_code(text: str) -> str:
    text = textwrap.dedent(text).strip("\n")
    if "```" not in text and "\n" in text:
        try:
            ast.parse(text)
        except SyntaxError:
            pass
        else:
            return f"```python\n{text}\n```"
    return _with_code(text)


def _paragraphs(docstring: str | None) -> str:
    return inspect.cleandoc(docstring or "").replace("``", "`")


_CALL = r"\([^()]*\)"
_CODE = re.compile(
    r"`[^`]*`"
    r"|(?:\([^()]*\)\.\w+\([^()]*\)|\w+(?:\.\w+)+(?: = \w+|\([^()]*\))?|\w+\([^()]*\)|\w+_\w+(?:=\w+)?|\w+=[\w\"{}:]+)"
    r"(?![\w(])"
)


def _with_code(text: str) -> str:
    """Mark what is code in a plain text: calls, dotted names, names with underscores, and settings."""
    if "```" in text:
        return text
    return _CODE.sub(lambda found: found[0] if found[0].startswith("`") else f"`{found[0]}`", text)
