"""The report of a run shows its lessons' claims in the order of the lessons, and tells warnings from errors."""

from pathlib import Path

import pytest
from bs4 import BeautifulSoup
from toys import write_lesson

from covlab.course.claims import Claim
from covlab.course.course_report import write_report
from covlab.course.editions import read_lessons
from covlab.course.lesson_failures import Problem
from covlab.course.runner import Run

ENVIRONMENT = {"python": "3.11", "platform": "Linux", "cores": 2, "device": "cpu", "versions": {"torch": "2.13"}}


def report(tmp_path: Path, problems: list[Problem], measured: list[dict[str, list[float]]]) -> tuple[dict, str]:
    """Return the results and the page of lessons that measured this; the first one has the problems."""
    for number in range(len(measured)):
        write_lesson(tmp_path, f"0{number}_toy")
    runs = [Run(lesson, tmp_path) for lesson in read_lessons(tmp_path)]
    for run, values in zip(runs, measured, strict=True):
        run.measured, run.status = values, "passed"
    runs[0].problems = problems
    runs[0].status = "failed" if any(problem.fatal for problem in problems) else "passed"
    claims = {name: Claim(name, 1, 0.5, "exact") for name in ("01.z", "00.b", "00.a", "01.unmeasured")}
    results = write_report(runs, claims, tmp_path / "report", 1.0, ENVIRONMENT)
    return results, (tmp_path / "report" / "index.html").read_text()


def test_claims_stand_in_the_order_in_which_the_lessons_measure_them(tmp_path: Path) -> None:
    measured = [{"00.a": [1.0], "00.b": [2.0]}, {"00.unknown": [1.0], "01.z": [1.0, 1.2]}]
    results, page = report(tmp_path, [], measured)
    assert [row["claim"] for row in results["claims"]] == ["00.a", "00.b", "01.z"]
    assert [row["holds"] for row in results["claims"]] == [True, False, True]
    shown = [cell.text for cell in BeautifulSoup(page, "html.parser").select("td:first-child")]
    assert [text for text in shown if text.startswith("0") and "." in text] == ["00.a", "00.b", "01.z"]


@pytest.mark.parametrize(
    "kinds, headings", [((), []), (("slow",), ["Warnings"]), (("error",), ["What is wrong"]), (("slow", "error"), None)]
)
def test_a_warning_is_called_one_and_is_nothing_wrong(
    tmp_path: Path, kinds: tuple[str, ...], headings: list[str] | None
) -> None:
    results, page = report(tmp_path, [Problem(kind, f"about {kind}") for kind in kinds], [{}])
    assert results["passed"] == ("error" not in kinds)
    soup = BeautifulSoup(page, "html.parser")
    found = {h2.text: str(h2.find_next("table")) for h2 in soup("h2") if h2.text in ("Warnings", "What is wrong")}
    assert list(found) == (["What is wrong", "Warnings"] if headings is None else headings)
    assert "about error" not in found.get("Warnings", "") and "about slow" not in found.get("What is wrong", "")
