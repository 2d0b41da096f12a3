"""Write JUnit XML for CI servers. This file needs only the standard library."""

import re
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from xml.etree import ElementTree

LONGEST = 200_000  # characters of a text
# What XML 1.0 forbids: control characters, lone surrogates, U+FFFE and U+FFFF. A carriage return would come back as a
# line feed.
FORBIDDEN = re.compile("[^\t\n\x20-\ud7ff\ue000-\ufffd\U00010000-\U0010ffff]")


@dataclass(frozen=True)
class Case:
    """One test case. It passed unless ``failure`` or ``skipped`` is set.

    failure: (type, message, text). skipped: the reason. output: what it printed.
    """

    name: str
    failure: tuple[str, str, str] | None = None
    skipped: str | None = None
    output: str | None = None
    seconds: float | None = None


def suite(name: str, cases: Sequence[Case], **attributes: str) -> ElementTree.Element:
    """Return a <testsuite> of the cases, with the counts of tests and failures and any further ``attributes``."""
    failures = sum(case.failure is not None for case in cases)
    counts = {"tests": str(len(cases)), "failures": str(failures), "errors": "0"}
    element = ElementTree.Element("testsuite", {"name": name, **counts, **attributes})
    for case in cases:
        time = {} if case.seconds is None else {"time": str(case.seconds)}
        node = ElementTree.SubElement(element, "testcase", {"classname": name, "name": case.name, **time})
        if case.failure is not None:
            kind, message, text = case.failure
            ElementTree.SubElement(node, "failure", type=kind, message=message).text = text
        if case.skipped is not None:
            ElementTree.SubElement(node, "skipped", message=case.skipped)
        if case.output is not None:
            ElementTree.SubElement(node, "system-out").text = case.output
    return element


def write(element: ElementTree.Element, path: Path | str) -> None:
    """Write the element as XML. What XML cannot hold is removed, and a long text is shortened."""
    for node in element.iter():
        node.text = node.text and printable(node.text)
        for name, value in node.attrib.items():
            node.set(name, printable(value))
    ElementTree.ElementTree(element).write(path, encoding="utf-8", xml_declaration=True)


def shortened(text: str) -> str:
    """Return the text, or of a text that nobody reads to its end the beginning and the end."""
    if len(text) <= LONGEST:
        return text
    left_out = len(text) - LONGEST
    return f"{text[: LONGEST // 2]}\n… {left_out} characters left out …\n{text[-LONGEST // 2 :]}"


def printable(text: str) -> str:
    """Return the text without what XML forbids, shortened if it is very long."""
    return FORBIDDEN.sub("", shortened(text))
