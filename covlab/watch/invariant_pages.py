"""A page about every invariant, made from its class and its file: Markdown for the website, text for a terminal.

A text that a class has besides those that every invariant has becomes a section of its page, under the name of the
attribute. What the report says of an example is made by running it.
"""

import ast
import inspect
import linecache
import re
import sys
import textwrap
import warnings
from collections.abc import Iterator
from types import ModuleType

import torch

from covlab.watch import blind_spots
from covlab.watch.invariants import INVARIANTS, TITLES, Invariant
from covlab.watch.invariants.framework_advice import Action, advice_by_framework
from covlab.watch.report import Report, finding_text
from covlab.watch.seen.observation import OBSERVED
from covlab.watch.session import watch

OWN_SECTION = {"code", "title", "meaning", "example", "limits", "nothing_to_check"}  # texts with their own place
EXAMPLE_FILE = "example.py"  # the name of an example's file in its report


def invariant_pages() -> dict[str, str]:
    """Return {code: Markdown}, W00 first. Pages link to each other as ``W01.md``."""
    return {blind_spots.CODE: _blind_spot_page()} | {each.code: invariant_page(each) for each in INVARIANTS}


def explanation(code: str, width: int = 80) -> str:
    """Return the page about ``code``, one of W00, W01 and so on, as text for a terminal."""
    by_code = {invariant.code: invariant for invariant in INVARIANTS}
    return _as_text(invariant_page(by_code[code]) if code in by_code else _blind_spot_page(), width)


def guidance(code: str) -> tuple[str, str, str]:
    """Return what ``code`` means, and its whole page as Markdown and as text, without running the example."""
    by_code = {invariant.code: invariant for invariant in INVARIANTS}
    meaning = by_code[code].meaning if code in by_code else blind_spots.MEANING
    page = invariant_page(by_code[code], run=False) if code in by_code else _blind_spot_page(run=False)
    page = _without_links(page)
    return " ".join(meaning.split()), page, _as_text(page, 100)


def run_example(example: str) -> Report:
    """Run an example under a watch, always with the same random numbers, and return the report."""
    source = textwrap.dedent(example).strip("\n") + "\n"
    linecache.cache[EXAMPLE_FILE] = (len(source), None, source.splitlines(keepends=True), EXAMPLE_FILE)
    code = compile(source, EXAMPLE_FILE, "exec")
    module = ModuleType("example")
    module.__file__ = EXAMPLE_FILE  # invariants that read the source code of modules find it
    sys.modules[module.__name__] = module
    try:
        with torch.random.fork_rng(devices=[]), warnings.catch_warnings(), watch() as w:
            warnings.simplefilter("ignore")  # torch's own about such a loop
            torch.manual_seed(0)
            vars(module)["w"] = w
            exec(code, vars(module))
    finally:
        del sys.modules[module.__name__]
    return w.report()


def invariant_page(invariant: type[Invariant], run: bool = True) -> str:
    """Return what an invariant means, what to do about a finding, and when it is not checked, as Markdown.

    run: whether to run the example, and to show what the report says.
    """
    module = sys.modules[invariant.__module__]
    heading = f"# {_heading(invariant.code, invariant.title)}"
    parts = [heading, _prose(invariant.meaning)]
    parts += _example(invariant.code, invariant.example, run and invariant.ranks == 1)
    if invariant.ranks > 1:
        start = f"torchrun --nproc-per-node {invariant.ranks} -m covlab.watch example.py"
        parts += ["It needs several processes:", f"```console\n$ {start}\n```"]
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
    parts += ["## What it does not know", _prose(invariant.limits)]
    parts += ["## When it is not checked", _list(_not_checked(invariant))]
    return "\n\n".join(parts) + "\n"


def _blind_spot_page(run: bool = True) -> str:
    """Return the page about W00, which is no invariant of the loop."""
    readings = [inspect.getdoc(reading) for reading in blind_spots.READINGS]
    return "\n\n".join(
        [
            f"# {_heading(blind_spots.CODE, blind_spots.TITLE)}",
            _prose(blind_spots.MEANING),
            *_example(blind_spots.CODE, blind_spots.EXAMPLE, run),
            "## What may be the reason",
            _list(text.partition("\n")[0] for text in readings if text),
            "## What it does not know",
            _prose(blind_spots.LIMITS),
        ]
    )


def _example(code: str, example: str, run: bool) -> Iterator[str]:
    """Yield a section with the example, and with ``run`` what the report says about it."""
    finding = run_example(example).of(code) if run else None
    yield "## Example"
    yield _text_or_code(example)
    if finding is not None:
        yield "The report says:"
        yield "```text\n" + finding_text(finding, 76) + "\n```"


def _prose(text: str) -> str:
    return _with_code(" ".join(text.split()))


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


_BLOCK = re.compile(r"```\w*\n(?P<code>.*?)\n```|[^\n].*?(?=\n\n|\Z)", re.DOTALL)


def _as_text(markdown: str, width: int) -> str:
    """Return a page as text: code is indented, everything else is wrapped, and loses its marks."""
    blocks = []
    for block in _BLOCK.finditer(markdown.strip()):
        if block["code"] is not None:
            blocks.append(textwrap.indent(block["code"], "    "))
            continue
        lines = re.sub(r"\*\*|`", "", _without_links(block[0])).split("\n")
        wrapped = [
            textwrap.fill(
                line.lstrip("# "), width, subsequent_indent="  " * line.startswith("- "), break_on_hyphens=False
            )
            for line in lines
        ]
        mark = {"# ": "=", "##": "-"}.get(block[0][:2])
        blocks.append("\n".join(wrapped) + (f"\n{mark * len(wrapped[0])}" if mark else ""))
    return "\n\n".join(blocks) + "\n"


def _without_links(markdown: str) -> str:
    """Replace links to other pages by their titles."""
    return re.sub(r"\[([^]]*)\]\(\w+\.md\)", r"\1", markdown)
