"""What a run of the course leaves behind: results.json and junit.xml for machines, index.html for people."""

import json
import xml.etree.ElementTree as xml
from datetime import UTC, datetime
from pathlib import Path

from covlab.course.claims import Claim
from covlab.course.report_page import page
from covlab.course.runner import Run


def write_report(runs: list[Run], claims: dict[str, Claim], folder: Path, seconds: float, environment: dict) -> dict:
    """Write results.json, junit.xml and the self-contained index.html into folder; returns the results.

    seconds: wall clock of all runs together. environment: as covlab.environment.provenance gives it.
    """
    results = {
        "passed": bool(runs) and all(run.status == "passed" for run in runs),
        "finished": datetime.now(UTC).isoformat(timespec="seconds"),
        "seconds": round(seconds, 2),
        "environment": environment,
        "lessons": [_lesson(run) for run in runs],
        "claims": _claims(runs, claims),
    }
    folder.mkdir(parents=True, exist_ok=True)
    (folder / "results.json").write_text(json.dumps(results, indent=1) + "\n", encoding="utf-8")
    xml.ElementTree(_junit(results)).write(folder / "junit.xml", encoding="utf-8", xml_declaration=True)
    (folder / "index.html").write_text(page(results, {run.lesson.name: run.executed for run in runs}), encoding="utf-8")
    return results


def _lesson(run: Run) -> dict:
    return {
        "lesson": run.lesson.name,
        "edition": run.edition,
        "status": run.status,
        "seconds": round(run.seconds, 2),
        "budget": run.allowed,
        "parameters": run.parameters,
        "source_sha256": run.lesson.digest,
        "findings": [
            {
                "kind": each.kind,
                "fatal": each.fatal,
                "place": run.location(each),
                "cell": each.cell,
                "claim": each.claim,
                "message": each.message,
                "last_lines": each.lines,
            }
            for each in run.problems
        ],
    }


def _claims(runs: list[Run], claims: dict[str, Claim]) -> list[dict]:
    """Expected and measured for every claim some run measured; several values are a spread."""
    rows = []
    for claim in claims.values():
        values = [value for run in runs for value in run.measured.get(claim.id, [])]
        if values:
            rows.append(
                {
                    "claim": claim.id,
                    "value": claim.value,
                    "tolerance": claim.tolerance,
                    "reason": claim.reason,
                    "measured": values,
                    "holds": all(map(claim.holds, values)),
                }
            )
    return rows


def _junit(results: dict) -> xml.Element:
    """One suite a lesson; one case for its execution and one for each claim."""
    suites = xml.Element("testsuites", name="covlab course", time=str(results["seconds"]))
    for lesson in results["lessons"]:
        number, fatal = lesson["lesson"][:2], [each for each in lesson["findings"] if each["fatal"]]
        cases = {"run": [each for each in fatal if not each["claim"]]}
        measured = [row["claim"] for row in results["claims"] if row["claim"].startswith(f"{number}.")]
        for name in [*measured, *(each["claim"] for each in fatal if each["claim"])]:
            cases[name] = [each for each in fatal if each["claim"] == name]
        suite = xml.SubElement(
            suites,
            "testsuite",
            name=lesson["lesson"],
            time=str(lesson["seconds"]),
            tests=str(len(cases)),
            failures=str(sum(map(bool, cases.values()))),
            errors="0",
        )
        for name, failures in cases.items():
            seconds = lesson["seconds"] if name == "run" else 0
            case = xml.SubElement(suite, "testcase", classname=lesson["lesson"], name=name, time=str(seconds))
            if failures:
                failure = xml.SubElement(case, "failure", type=failures[0]["kind"], message=failures[0]["message"])
                failure.text = _printable(
                    "\n\n".join(
                        "\n".join([f"{each['place']}: {each['message']}", *each["last_lines"]]) for each in failures
                    )
                )
    return suites


def _printable(text: str) -> str:
    """Without the control characters that XML forbids."""
    return "".join(letter for letter in text if letter >= " " or letter in "\t\n")
