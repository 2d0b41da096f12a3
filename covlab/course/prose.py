"""The Markdown of a lesson: rendered without a network, and read for the numbers it states.

A number in prose is wrapped in a span, which every front end shows as the number alone:

    the gradient was <span data-claim="06.gradient_ratio">4.0</span> times too large
    the log says <span data-quoted="the project's README">train 0.000000 val 1.921642</span>

The first must agree with the claim of that id, the second names its source. Code and maths are exempt.
"""

import re
from collections.abc import Iterator
from dataclasses import dataclass
from html import escape
from html.parser import HTMLParser

from latex2mathml.converter import convert as mathml
from markdown_it import MarkdownIt
from mdit_py_plugins.dollarmath import dollarmath_plugin

# A decimal; not part of a word or of a longer chain such as 2.13.0.
DECIMAL = re.compile(r"(?<![\w.])[-−+]?\d*\.\d+(?:[eE][-−+]?\d+)?(?![\w.]*\d)")
NUMBER = re.compile(r"[-−+]?(?:\d+\.?\d*|\.\d+)(?:[eE][-−+]?\d+)?")
EXEMPT = {"code", "pre", "math", "script", "style"}
VOID = {"img", "br", "hr", "input", "meta", "link", "wbr", "col", "source"}


@dataclass(frozen=True)
class Stated:
    """A number as prose prints it. claim: the id it is marked with, None without a marker."""

    text: str
    claim: str | None


@dataclass(frozen=True)
class Image:
    alt: str | None


def render(markdown: str) -> str:
    """HTML of a Markdown cell; maths becomes MathML, which browsers show without any script."""
    return _MARKDOWN.render(markdown)


def statements(markdown: str) -> Iterator[Stated]:
    """The numbers that a Markdown cell states and must answer for: marked ones, and bare decimals.

    Raises ValueError for a marker that names nothing, a claim whose text is not one number, and
    a formula that is no TeX.
    """
    reader = _NumberReader()
    reader.feed(render(markdown))
    reader.close()
    return iter(reader.stated)


def images(html: str) -> list[Image]:
    """Every <img> of some HTML, and its alternative text."""
    reader = _NumberReader()
    reader.feed(html)
    reader.close()
    return reader.images


def mathml_or_code(tex: str, display: bool) -> str:
    """MathML of a formula, or the formula itself, marked, where it cannot be read."""
    try:
        return mathml(tex, display="block" if display else "inline")
    except Exception as error:  # noqa: BLE001 - latex2mathml has no base class for its many errors
        return f'<code data-unreadable="{type(error).__name__}">{escape(tex)}</code>'


_MARKDOWN = MarkdownIt("commonmark", {"html": True}).enable(["table", "strikethrough"])
_MARKDOWN.use(
    dollarmath_plugin, allow_digits=False, renderer=lambda tex, options: mathml_or_code(tex, options["display_mode"])
)


class _NumberReader(HTMLParser):
    """Walks HTML, knowing at each text what it stands in."""

    def __init__(self) -> None:
        super().__init__()
        self.open: list[tuple[str, dict[str, str | None]]] = []
        self.stated: list[Stated] = []
        self.images: list[Image] = []

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        attributes = dict(attrs)
        for marker in ("data-claim", "data-quoted"):
            if marker in attributes and not (attributes[marker] or "").strip():
                raise ValueError(f"a {marker} marker names nothing")
        if "data-unreadable" in attributes:
            raise ValueError(f"this lesson has a formula that cannot be read: {attributes['data-unreadable']}")
        if tag == "img":
            self.images.append(Image(attributes.get("alt")))
        if tag not in VOID:
            self.open.append((tag, attributes))

    def handle_endtag(self, tag: str) -> None:
        for position in range(len(self.open) - 1, -1, -1):
            if self.open[position][0] == tag:
                del self.open[position:]
                return

    def handle_data(self, data: str) -> None:
        if any(tag in EXEMPT or "data-quoted" in attributes for tag, attributes in self.open):
            return
        claim = next((attributes["data-claim"] for _, attributes in self.open if "data-claim" in attributes), None)
        if claim is None:
            self.stated += [Stated(found, None) for found in DECIMAL.findall(data)]
        elif NUMBER.fullmatch(data.strip()):
            self.stated.append(Stated(data.strip(), claim))
        else:
            raise ValueError(f"claim {claim!r} marks {data!r}, expected a number alone")
