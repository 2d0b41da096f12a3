"""Render the Markdown of a lesson, without a network, and find the numbers that its text states.

A number in prose is wrapped in a span. Every front end shows only the number:

    the gradient was <span data-claim="06.gradient_ratio">4.0</span> times too large
    the error is <span data-claim="06.error">5.5 to 7.8</span> times as large, depending on the seed
    the log says <span data-quoted="the project's README">train 0.000000 val 1.921642</span>

The first two must agree with the claim of that id, the third names its source. Code and math are exempt.
"""

import re
from collections.abc import Iterator
from dataclasses import dataclass
from decimal import Decimal
from functools import cached_property
from html import escape

from bs4 import BeautifulSoup, Tag
from latex2mathml.converter import convert as mathml
from markdown_it import MarkdownIt
from mdit_py_plugins.dollarmath import dollarmath_plugin

# A decimal; not part of a word or of a longer chain such as 2.13.0.
DECIMAL = re.compile(r"(?<![\w.])[-−+]?\d*\.\d+(?:[eE][-−+]?\d+)?(?![\w.]*\d)")
# A measured number that is no decimal: "93 %", "a factor of 12". A power of ten, such as 1e-5, is a threshold.
SHARE = re.compile(r"(?<![\w.])[-−+]?\d+(?=\s?%)")
FACTOR = re.compile(r"(?<=\bfactor of )\d+(?![\w.]*\d)")
NUMBER = re.compile(r"[-−+]?(?:\d+\.?\d*|\.\d+)(?:[eE][-−+]?\d+)?")
RANGE = re.compile(rf"({NUMBER.pattern})(?:\s*–\s*|\s+to\s+)({NUMBER.pattern})")


@dataclass(frozen=True)
class Stated:
    """A number, or a range such as "5.5 to 7.8", as prose prints it. claim: its id, None without a marker."""

    text: str
    claim: str | None

    @cached_property
    def ends(self) -> tuple[Decimal, ...]:
        """The number, or both ends of the range."""
        found = RANGE.fullmatch(self.text)
        return tuple(Decimal(each.replace("−", "-")) for each in (found.groups() if found else [self.text]))


def render(markdown: str) -> str:
    """Return a Markdown cell as HTML; math becomes MathML, which browsers show without a script."""
    return _MARKDOWN.render(markdown)


def statements(markdown: str) -> Iterator[Stated]:
    """Yield the numbers of a Markdown cell that must be checked: those with a claim, and, without a marker, decimals,
    percentages and factors.

    Raises ValueError for an empty marker, a claim whose text is no number and no range, and a formula that is not TeX.
    """
    page = BeautifulSoup(render(markdown), "html.parser")
    for marker in ("data-claim", "data-quoted"):
        if any(not str(tag[marker]).strip() for tag in page.select(f"[{marker}]")):
            raise ValueError(f"a {marker} marker is empty; expected an id or a source")
    if unreadable := page.select_one("[data-unreadable]"):
        raise ValueError(f"cannot read the formula {unreadable.text!r} of this lesson: {unreadable['data-unreadable']}")
    done: list[Tag] = []
    for text in page.strings:
        if text.find_parent(["code", "pre", "math"]) or text.find_parent(attrs={"data-quoted": True}):
            continue
        marked = text.find_parent(attrs={"data-claim": True})
        if marked is None:
            for unmarked in (DECIMAL, SHARE, FACTOR):
                yield from (Stated(found, None) for found in unmarked.findall(text))
        elif not any(marked is each for each in done):
            done.append(marked)
            yield _claimed(marked.text.strip(), str(marked["data-claim"]))


def _claimed(text: str, claim: str) -> Stated:
    if not NUMBER.fullmatch(text) and not RANGE.fullmatch(text):
        raise ValueError(
            f"claim {claim!r} marks {text!r}, expected a number or a range such as 5.5 to 7.8, and nothing else"
        )
    stated = Stated(text, claim)
    if stated.ends[0] > stated.ends[-1]:
        raise ValueError(f"claim {claim!r} marks the range {text!r}, expected the smaller number first")
    return stated


def mathml_or_code(tex: str, display: bool) -> str:
    """Return a formula as MathML, or as marked code if it cannot be read."""
    try:
        return mathml(tex, display="block" if display else "inline")
    except Exception as error:  # noqa: BLE001 - latex2mathml has no base class for its many errors
        return f'<code data-unreadable="{type(error).__name__}">{escape(tex)}</code>'


_MARKDOWN = MarkdownIt("commonmark", {"html": True}).enable(["table", "strikethrough"])
_MARKDOWN.use(
    dollarmath_plugin, allow_digits=False, renderer=lambda tex, options: mathml_or_code(tex, options["display_mode"])
)
