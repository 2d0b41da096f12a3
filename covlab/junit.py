"""Write JUnit XML for CI servers. This file needs only the standard library."""

import re
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from xml.etree import ElementTree

FORBIDDEN = re.compile("[^\t\n\x20-\ud7ff\ue000-\ufffd\U00010000-\U0010ffff]")  # in XML


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
    element = ElementTree.Element("testsuite", {"name": _printable(name), **counts, **attributes})
    for case in cases:
        time = {} if case.seconds is None else {"time": str(case.seconds)}
        node = ElementTree.SubElement(
            element, "testcase", {"classname": _printable(name), "name": _printable(case.name), **time}
        )
        if case.failure is not None:
            kind, message, text = map(_printable, case.failure)
            ElementTree.SubElement(node, "failure", type=kind, message=message).text = text
        if case.skipped is not None:
            ElementTree.SubElement(node, "skipped", message=_printable(case.skipped))
        if case.output is not None:
            ElementTree.SubElement(node, "system-out").text = _printable(case.output)
    return element


def write(element: ElementTree.Element, path: Path | str) -> None:
    ElementTree.ElementTree(element).write(path, encoding="utf-8", xml_declaration=True)


def _printable(text: str) -> str:
    """Remove the characters that XML forbids, such as control characters and halves of surrogate pairs."""
    return FORBIDDEN.sub("", text)
