"""Make HTML harmless: what remains fetches nothing, runs nothing, and shows text, tables, formulas and pictures.

The outputs of a lesson may hold any HTML. What is not listed here is shown as text (an element) or dropped (an
attribute, a style).
"""

import re
from html import unescape

from bleach.css_sanitizer import CSSSanitizer
from bleach.sanitizer import Cleaner

_TEXT = {
    *{"a", "abbr", "article", "aside", "b", "blockquote", "br", "caption", "cite", "code", "col", "colgroup", "dd"},
    *{"del", "details", "dfn", "div", "dl", "dt", "em", "figcaption", "figure", "footer", "h1", "h2", "h3", "h4"},
    *{"h5", "h6", "header", "hr", "i", "img", "ins", "kbd", "li", "main", "mark", "meter", "ol", "p", "pre"},
    *{"progress", "q", "s", "samp"},
    *{"section", "small", "span", "strong", "sub", "summary", "sup", "table", "tbody", "td", "tfoot", "th", "thead"},
    *{"time", "tr", "tt", "u", "ul", "var", "wbr"},
}
_FORMULA = {
    *{"math", "maction", "menclose", "merror", "mfenced", "mfrac", "mi", "mmultiscripts", "mn", "mo", "mover"},
    *{"mpadded", "mphantom", "mroot", "mrow", "ms", "mspace", "msqrt", "mstyle", "msub", "msubsup", "msup", "mtable"},
    *{"mtd", "mtext", "mtr", "munder", "munderover"},
}
_DRAWING = {"svg", "g", "path", "rect", "circle", "ellipse", "line", "polyline", "polygon", "text", "tspan"}
# No attribute of these makes a browser fetch or run anything; `href`, `src` and `style` are judged by their values.
_ATTRIBUTES = {
    *{"accent", "accentunder", "alt", "aria-hidden", "aria-label", "class", "colspan", "columnalign", "cx", "cy", "d"},
    *{"data-claim", "data-quoted", "dir", "display", "displaystyle", "dx", "dy", "fence", "fill", "fill-opacity"},
    *{"font-size", "form", "height", "href", "id", "lang", "linethickness", "lspace", "mathvariant", "maxsize"},
    *{"max", "min", "minsize", "movablelimits", "open", "points", "r", "role", "rowspan", "rspace", "rx", "ry"},
    *{"scope", "scriptlevel", "value"},
    *{"separator", "src", "start", "stretchy", "stroke", "stroke-dasharray", "stroke-width", "style", "symmetric"},
    *{
        "tabindex",
        "text-anchor",
        "title",
        "transform",
        "viewBox",
        "viewbox",
        "width",
        "x",
        "x1",
        "x2",
        "xmlns",
        "y",
        "y1",
        "y2",
    },
}
# No value of these may be an address.
_STYLES = {
    *{"background-color", "border", "border-bottom", "border-collapse", "border-color", "border-left", "border-radius"},
    *{"border-right", "border-spacing", "border-style", "border-top", "border-width", "box-sizing", "color", "display"},
    *{"flex", "float", "font", "font-family", "font-size", "font-style", "font-variant-numeric", "font-weight", "gap"},
    *{"height", "letter-spacing", "line-height", "margin", "margin-bottom", "margin-left", "margin-right"},
    *{"margin-top", "max-height", "max-width", "min-height", "min-width", "opacity", "overflow", "overflow-x"},
    *{"overflow-y", "padding", "padding-bottom", "padding-left", "padding-right", "padding-top", "text-align"},
    *{"text-decoration", "vertical-align", "white-space", "width", "word-break"},
}
_PICTURE = re.compile(r"data:image/(png|jpeg|gif|webp|svg\+xml)[;,]", re.IGNORECASE)
_LINK = re.compile(r"https?://|mailto:|[^:]*$", re.IGNORECASE)


def harmless(html: str) -> str:
    """Return a piece of HTML without anything that fetches or runs."""
    return _CLEANER.clean(html)


def _is_allowed(element: str, name: str, value: str) -> bool:
    if name == "href":
        return element == "a" and _LINK.match(unescape(value)) is not None
    if name == "src":
        return element == "img" and _PICTURE.match(unescape(value)) is not None
    return name in _ATTRIBUTES and (name == "style" or "url" not in unescape(value).lower() or name in ("alt", "title"))


_CLEANER = Cleaner(
    tags=_TEXT | _FORMULA | _DRAWING,
    attributes=_is_allowed,
    protocols={"http", "https", "mailto", "data"},
    css_sanitizer=CSSSanitizer(allowed_css_properties=_STYLES, allowed_svg_properties=()),
)
