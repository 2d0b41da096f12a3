"""Find what a page fetches from elsewhere or runs, with the parser that browsers have in common (HTML 5).

An inline script is a danger unless the theme's own pages have it: nobody can see from its text what it would fetch.
"""

import re
from collections.abc import Collection, Iterator
from pathlib import Path
from urllib.parse import urlsplit
from xml.etree.ElementTree import Element

import tinycss2
from bleach.html5lib_shim import HTMLParser

# Elements that show or run another document.
FRAMES = {"iframe", "frame", "frameset", "object", "embed", "applet", "base", "portal", "fencedframe", "foreignobject"}
# Attributes that hold addresses: several (srcset), or one.
SEVERAL = {"srcset", "imagesrcset", "ping", "archive"}
ONE = {
    *{
        "action",
        "background",
        "cite",
        "classid",
        "codebase",
        "data",
        "dynsrc",
        "formaction",
        "href",
        "icon",
        "longdesc",
    },
    *{"lowsrc", "manifest", "poster", "profile", "src", "xlink:href"},
}
DATA = {"img": ("src", "srcset"), "source": ("src", "srcset"), "image": ("href", "xlink:href")}  # may hold data:image/…
STYLED = {
    "clip-path",
    "cursor",
    "fill",
    "filter",
    "marker-end",
    "marker-mid",
    "marker-start",
    "mask",
    "stroke",
    "style",
}
CSS_WITH_ADDRESS = {"url", "src", "image", "image-set", "-webkit-image-set", "cross-fade"}
SAFE_META = {"content-type", "x-ua-compatible", "content-security-policy"}


def page_dangers(html: str, allowed_scripts: Collection[str] = ()) -> list[str]:
    """Return a line for each danger of a page. allowed_scripts: those of the theme's pages."""
    found: list[str] = []
    for element in _elements(html):
        tag, attributes = _name(element), {name.lower(): value for name, value in _attributes(element)}
        if tag in FRAMES:
            found.append(f"shows or runs another document: <{tag}>")
        if tag == "meta" and attributes.get("http-equiv", "content-type").strip().lower() not in SAFE_META:
            found.append(f"gives the browser an order: <meta http-equiv={attributes['http-equiv']!r}>")
        if tag == "script":
            found += _script_dangers(element, attributes, allowed_scripts)
        if tag in ("animate", "set", "animatetransform", "animatemotion") and "href" in attributes.get(
            "attributename", ""
        ):
            found.append(f"changes an address: <{tag}>")
        if tag == "style":
            found += _css_dangers("".join(element.itertext()), rules=True)
        for name, value in attributes.items():
            found += _attribute_dangers(tag, name, value)
    return list(dict.fromkeys(found))


def inline_scripts(path: Path) -> set[str]:
    """Return what the inline scripts of a page say, apart from the name of the page."""
    return {
        _without_name_of_page("".join(element.itertext()))
        for element in _elements(path.read_text(encoding="utf-8"))
        if _name(element) == "script" and "src" not in element.attrib
    }


def browser_address(text: str) -> str:
    """Return an address as a browser reads it: it ignores some spaces and line breaks, and takes \\ for /."""
    text = re.sub(r"[\t\r\n]", "", text.strip("".join(map(chr, range(33)))))
    return text if text[:5].lower() == "data:" else text.replace("\\", "/")


def _elements(html: str) -> Iterator[Element]:
    for element in HTMLParser(namespaceHTMLElements=False).parse(html).iter():
        if isinstance(element.tag, str):  # not a comment
            yield element


def _name(element: Element) -> str:
    return element.tag.rpartition("}")[2].lower()


def _attributes(element: Element) -> Iterator[tuple[str, str]]:
    for name, value in element.attrib.items():
        yield name.replace("{http://www.w3.org/1999/xlink}", "xlink:").rpartition("}")[2], value


def _without_name_of_page(script: str) -> str:
    return re.sub(r"(?<=^DOCUMENTATION_OPTIONS\.pagename = ')[\w./-]+(?=';$)", "", script.strip())


def _script_dangers(element: Element, attributes: dict[str, str], allowed: Collection[str]) -> Iterator[str]:
    kind = attributes.get("type", "").strip().lower()
    address = browser_address(attributes.get("src", attributes.get("href", attributes.get("xlink:href", ""))))
    if address:
        path = urlsplit(address).path
        if not (path.removeprefix("../").startswith("_static/") or path.rpartition("/")[2] == "searchindex.js"):
            yield f"runs a script that is not the theme's: {address[:80]}"
    elif kind != "application/json" and not kind.endswith("+json"):
        text = _without_name_of_page("".join(element.itertext()))
        if text and text not in allowed:
            yield f"runs a script that is not the theme's: {text[:80]!r}"


def _attribute_dangers(tag: str, name: str, value: str) -> Iterator[str]:
    if name.startswith("on"):
        yield f"runs a script: <{tag} {name}={value[:60]!r}>"
    elif name == "srcdoc":
        yield f"shows another document: <{tag} srcdoc>"
    elif name in STYLED:
        yield from _css_dangers(value, rules=False)
    elif name in SEVERAL:
        for address in value.replace(", ", " ").split():
            yield from _address_dangers(tag, name, address)
    elif name in ONE:
        yield from _address_dangers(tag, name, value)


def _address_dangers(tag: str, name: str, value: str) -> Iterator[str]:
    address = browser_address(value)
    scheme = re.match(r"([a-z][a-z0-9+.-]*):", address, re.IGNORECASE)
    kind = scheme[1].lower() if scheme else ""
    if tag in ("a", "area") and name == "href":
        if kind not in ("", "http", "https", "mailto"):
            yield f"has a link that may run a script: {address[:80]}"
    elif kind == "data":
        if name not in DATA.get(tag, ()) or not re.match(r"data:image/", address, re.IGNORECASE):
            yield f"runs or shows what an address holds: {address[:80]}"
    elif kind or address.startswith("//"):
        yield f"would fetch {address[:80]}"


def _css_dangers(css: str, rules: bool) -> Iterator[str]:
    nodes = tinycss2.parse_component_value_list(css, skip_comments=True)
    for address in map(browser_address, _addresses_in_css(nodes)):
        if re.match(r"(?!data:(image|font)/)[a-z][a-z0-9+.-]*:|//", address, re.IGNORECASE):
            yield f"would fetch {address[:80]}"
    if rules and any(node.type == "at-keyword" and node.lower_value == "import" for node in nodes):
        yield "imports a style sheet"


def _addresses_in_css(nodes: list) -> Iterator[str]:
    for node in nodes:
        if node.type == "url":
            yield node.value
        elif node.type == "function":
            if node.lower_name in CSS_WITH_ADDRESS:
                yield from (part.value for part in node.arguments if part.type == "string")
            yield from _addresses_in_css(node.arguments)
        elif hasattr(node, "content") and isinstance(node.content, list):
            yield from _addresses_in_css(node.content)
        elif node.type == "error" and "url" in node.kind:
            yield "broken:url"
