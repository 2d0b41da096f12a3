"""The report as SARIF 2.1.0, which GitHub, GitLab and editors show beside the code."""

import hashlib
import json
from pathlib import Path
from typing import Any

from covlab import junit
from covlab.watch import blind_spots
from covlab.watch.finding import Finding
from covlab.watch.invariant_pages import guidance
from covlab.watch.invariants import INVARIANTS, TITLES
from covlab.watch.report import Report
from covlab.watch.seen.location import STARTED_IN, CodeLocation

SCHEMA = "https://docs.oasis-open.org/sarif/sarif/v2.1.0/errata01/os/schemas/sarif-schema-2.1.0.json"
LEVELS = {"fault": "error", "warning": "warning", "note": "note"}
ROOT = "SRCROOT"  # the folder that locations are relative to
CODES = (blind_spots.CODE, *TITLES)

Json = dict[str, Any]


def write_sarif(report: Report, path: Path | str, script: str | None = None) -> None:
    """Write the report. Findings without a location point to the file ``script``."""
    Path(path).write_text(json.dumps(sarif_log(report, script), indent=1) + "\n", encoding="utf-8")


def sarif_log(report: Report, script: str | None = None) -> Json:
    """Return the report as a SARIF log: a rule for each invariant, and a result for each finding."""
    causes = [(finding, None) for finding in report.findings]
    consequences = [(one, finding.code) for finding in report.findings for one in finding.follows]
    invocation = {
        "executionSuccessful": True,
        "toolExecutionNotifications": [
            {"associatedRule": _rule_reference(code), "level": "note", "message": _message(f"not checked: {why}")}
            for code, why in report.unchecked.items()
        ],
    }
    run = {
        "tool": {"driver": {"name": "covlab watch", "rules": _rules()}},
        "invocations": [invocation],
        "originalUriBaseIds": {ROOT: {"uri": Path(STARTED_IN).as_uri().rstrip("/") + "/"}},
        "columnKind": "unicodeCodePoints",
        "results": [_result(finding, cause, script) for finding, cause in (*causes, *consequences)],
        "properties": {"summary": junit.printable(report.summary)},
    }
    return {"$schema": SCHEMA, "version": "2.1.0", "runs": [run]}


def _rules() -> list[Json]:
    names = {blind_spots.CODE: "TrainingIsSeen"} | {each.code: each.__name__ for each in INVARIANTS}
    titles = {blind_spots.CODE: blind_spots.TITLE, **TITLES}
    rules = []
    for code in CODES:
        meaning, markdown, text = guidance(code)
        rule = {
            "id": code,
            "name": names[code],
            "shortDescription": _message(titles[code]),
            "fullDescription": _message(meaning),
            "help": {"text": text, "markdown": markdown},
        }
        rules.append(rule)
    return rules


def _rule_reference(code: str) -> Json:
    return {"id": code, "index": CODES.index(code)}


def _result(finding: Finding, cause: str | None, script: str | None) -> Json:
    row = finding.row()
    location = _location(finding.location, script)
    why = f"\nThis follows from {cause}." if cause else ""
    why += f"\nIt was found {finding.on_ranks}." if finding.ranks else ""
    return {
        "ruleId": finding.code,
        "ruleIndex": CODES.index(finding.code),
        "level": LEVELS[finding.verdict],
        "message": _message(f"{finding.says}\nWhat to do: {finding.fix}{why}"),
        "locations": [] if location is None else [location],
        "occurrenceCount": max(finding.times, 1),
        "partialFingerprints": {"finding/v1": _fingerprint(finding)},
        "properties": {name: row[name] for name in ("number", "first", "last", "ranks")} | {"cause": cause},
    }


def _location(location: CodeLocation | None, script: str | None) -> Json | None:
    """Return a line of a file, a line that was typed in a notebook or a console, or the whole script."""
    path = script if location is None else location.path
    if path is None:
        return None if location is None else {"logicalLocations": [{"name": junit.printable(str(location))}]}
    physical: Json = {"artifactLocation": _artifact(path)}
    if location is not None and location.line:
        physical["region"] = {"startLine": location.line}
        if location.code:
            physical["region"]["snippet"] = _message(location.code)
    found: Json = {"physicalLocation": physical}
    if location is not None and location.library is not None:
        found["message"] = _message(f"in {location.library}")
    return found


def _artifact(path: str) -> Json:
    """Return the address of a file, relative to the folder in which the watch began if it is in there."""
    absolute = Path(STARTED_IN, path)
    address = absolute.as_uri()
    root = Path(STARTED_IN).as_uri().rstrip("/") + "/"
    if address.startswith(root):
        return {"uri": address.removeprefix(root), "uriBaseId": ROOT}
    return {"uri": address}


def _fingerprint(finding: Finding) -> str:
    """Return what stays the same when lines are added above the finding's line."""
    location = finding.location
    where = "" if location is None else f"{Path(location.file).name} {location.code}"
    return hashlib.sha256(f"{finding.code} {where}".encode("utf-8", "replace")).hexdigest()[:32]


def _message(text: str) -> Json:
    return {"text": junit.printable(text)}
