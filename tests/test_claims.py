"""Laws of parameters, of numbers in prose, and of claims."""

import json
import tomllib
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from click.testing import CliRunner
from hypothesis import example, given
from hypothesis import strategies as st
from nbconvert.filters import markdown2html
from toys import TITLE, write_lesson

from covlab.cli.main import main
from covlab.course import measure
from covlab.course.claims import (
    Claim,
    ClaimError,
    as_toml,
    claims_of,
    measurement_complaints,
    print_complaints,
    prints_over_seeds,
    proposal,
    prose_complaints,
    read_claims,
)
from covlab.course.editions import LessonError, read_lesson
from covlab.course.lesson_parameters import check_overrides, defaults
from covlab.course.prose import Stated, render, statements
from covlab.watch import invariant_pages

# Parameters

USE = ["print(seed, profile)"]


def test_defaults_are_plain_literals() -> None:
    assert defaults("seed = 0  # any\nprofile = 'cpu'\nrates = [0.1, -1e-3]", [*USE, "rates"]) == {
        "seed": 0,
        "profile": "cpu",
        "rates": [0.1, -1e-3],
    }


@pytest.mark.parametrize(
    "source",
    [
        "seed = 1 + x",
        "import os",
        "seed, profile = 0, 'cpu'",
        "seed = profile = 0",
        "seed: int = 0",
        "print(1)",
        "x.seed = 0",
    ],
)
def test_anything_else_is_refused(source: str) -> None:
    with pytest.raises(ValueError, match="plain literals"):
        defaults(source, USE)


def test_a_parameter_must_be_loaded_later() -> None:
    with pytest.raises(ValueError, match="reads the parameter seed"):
        defaults("seed = 0", ["seed = 3", "seeds = 1", "'seed'", "x.seed"])
    for reader in ("f(seed)", "f'{seed}'", "def f():\n    return seed", "%time g(seed)\nseed", "x[seed]"):
        defaults("seed = 0", ["pass", reader])
    defaults("seed = 0", [], unread=True)


def test_a_lesson_with_an_unread_parameter_is_refused_unless_tagged(tmp_path: Path) -> None:
    path = write_lesson(tmp_path, "01_toy", TITLE)
    read_lesson(path)
    path.write_text(path.read_text().replace('["parameters", "unread"]', '["parameters"]'))
    with pytest.raises(LessonError, match="01_toy.py: no later cell reads the parameter seed, profile"):
        read_lesson(path)


@pytest.mark.parametrize(
    "overrides, complaint",
    [
        ({"sead": 1}, r"no parameter 'sead'; there are: seed = 0, rate = 0.1, profile = 'cpu'"),
        ({"seed": "1"}, "of type str; expected int, such as 0"),
        ({"seed": 1.5}, "of type float; expected int"),
        ({"seed": True}, "of type bool; expected int"),
        ({"profile": "tpu"}, "'tpu'; expected one of cpu, gpu"),
    ],
)
def test_overrides_that_a_lesson_does_not_have_are_refused(overrides: dict[str, object], complaint: str) -> None:
    with pytest.raises(ValueError, match=complaint):
        check_overrides({"seed": 0, "rate": 0.1, "profile": "cpu"}, overrides)


def test_an_int_may_stand_for_a_float() -> None:
    check_overrides({"rate": 0.1, "seed": 0}, {"rate": 1, "seed": 7})


def test_a_mistyped_parameter_stops_the_run_before_it_begins(tmp_path: Path) -> None:
    write_lesson(tmp_path, "01_toy", TITLE)
    done = CliRunner().invoke(main, ["course", "run", "--root", str(tmp_path), "-p", "sead", "3"])
    assert done.exit_code == 2
    assert "lesson 01_toy: no parameter 'sead'; there are: seed = 0" in done.output
    assert not (tmp_path / "build" / "course").exists()


# Numbers in prose


@pytest.mark.parametrize(
    "markdown, expected",
    [
        ("a ratio of 4.0 and .187 and −0.25", [("4.0", None), (".187", None), ("−0.25", None)]),
        ('<span data-claim="06.r">4.0</span> at the start', [("4.0", "06.r")]),
        ('**<span data-claim="06.r">1.2e-3</span>**', [("1.2e-3", "06.r")]),
        ('<span data-claim="06.r">**7**</span>', [("7", "06.r")]),
        ('<span data-claim="06.r">5.5 to 7.8</span> and 7.8', [("5.5 to 7.8", "06.r"), ("7.8", None)]),
        ("| a |\n|---|\n| 2.5 |", [("2.5", None)]),
        ("# Heading 1.5\n\n- item 0.5%", [("1.5", None), ("0.5", None)]),
        ("<details><summary>more: 7.5</summary>\n\nx\n</details>", [("7.5", None)]),
        ("`0.7` and $x_{0.5}$ and torch 2.13.0\n\n$$\n0.1\n$$\n\n    0.2\n\n```\n0.3\n```", []),
        ('<span data-quoted="the log">train 0.000000 val 1.921642</span>', []),
        ('<div data-quoted="the log">\n\n| a |\n|---|\n| 2.5 |\n\n</div>', []),
        ("93 % and 7% of it, <span data-claim='06.r'>12</span> %", [("93", None), ("7", None), ("12", "06.r")]),
        ("by a factor of 12, or a factor of 2.5", [("2.5", None), ("12", None)]),
        ("4 times in 90 s, below 1e-5", []),
    ],
)
def test_numbers_that_prose_must_answer_for(markdown: str, expected: list[tuple[str, str | None]]) -> None:
    assert [(stated.text, stated.claim) for stated in statements(markdown)] == expected


@pytest.mark.parametrize(
    "markdown, complaint",
    [
        ('<span data-claim="06.r">about 4.0</span>', "expected a number or a range such as 5.5 to 7.8"),
        ('<span data-claim="06.r">5.5-7.8</span>', "expected a number or a range such as 5.5 to 7.8"),
        ('<span data-claim="06.r">7.8 to</span>', "expected a number or a range such as 5.5 to 7.8"),
        ('<span data-claim="">4.0</span>', "data-claim marker is empty"),
        ('<span data-quoted=" ">4.0</span>', "data-quoted marker is empty"),
        ("$\\frac{$", "cannot read the formula"),
    ],
)
def test_markers_and_formulas_that_cannot_be_read_are_refused(markdown: str, complaint: str) -> None:
    with pytest.raises(ValueError, match=complaint):
        list(statements(markdown))


@pytest.mark.parametrize("convert", [render, markdown2html])
@pytest.mark.parametrize(
    "where", ["{} begins a line", "inside {} a line", "> {}", "- {}", "| a |\n|---|\n| {} |", "# {}"]
)
def test_the_marker_survives_rendering_and_shows_nothing(convert: Callable[[str], str], where: str) -> None:
    marker = '<span data-claim="06.r">4.0</span>'
    assert marker in convert(where.format(marker))


# Claims

CLAIM = Claim("06.r", 4.0, 0.1, "five seeds")


@given(st.floats(-1e6, 1e6), st.integers(0, 6), st.integers(-3, 3), st.booleans())
def test_prose_prints_what_the_default_run_measured_and_other_seeds_may_differ(
    value: float, digits: int, off: int, default: bool
) -> None:
    printed = f"{value + 1.01 * off * 10.0**-digits:.{digits}f}"
    complaints = print_complaints([Stated(printed, "06.r")], {"06.r": [value]}, default_run=default)
    assert bool(complaints) == (off != 0 and default)
    if complaints:
        [(claim, said)] = complaints
        assert claim == "06.r" and printed in said
        right = said.rpartition("write ")[2]
        assert print_complaints([Stated(right, "06.r")], {"06.r": [value]}, default_run=True) == []


@given(st.lists(st.floats(-1e6, 1e6), min_size=1, max_size=4), st.floats(-1e6, 1e6), st.floats(0, 1e6), st.booleans())
def test_a_range_contains_the_measurements_of_every_run(
    measured: list[float], low: float, width: float, default: bool
) -> None:
    stated = Stated(f"{low:.1f} to {low + width:.1f}", "06.r")
    inside = all(float(stated.ends[0]) <= value <= float(stated.ends[1]) for value in measured)
    complaints = print_complaints([stated], {"06.r": measured}, default_run=default)
    assert bool(complaints) != inside
    if complaints:
        right = complaints[0][1].rpartition("write ")[2]
        assert print_complaints([Stated(right, "06.r")], {"06.r": measured}, default_run=default) == []


@given(st.lists(st.floats(-1e3, 1e3), min_size=1, max_size=5), st.integers(0, 4), st.booleans())
def test_what_check_proposes_over_several_seeds_is_accepted(measured: list[float], digits: int, ranged: bool) -> None:
    text = f"{min(measured):.{digits}f}" + (f" to {max(measured):.{digits}f}" if ranged else "")
    said = prints_over_seeds(Stated(text, "06.r"), measured)
    right = text if "every seed" in said else said.rpartition("write ")[2]
    [number] = statements(right if right.startswith("<") else f'<span data-claim="06.r">{right}</span>')
    assert print_complaints([number], {"06.r": measured}, default_run=True) == []


@pytest.mark.parametrize("to", [" to ", "–", " – ", "&nbsp;to&nbsp;", "\n# to "])
def test_a_range_is_two_numbers_the_smaller_first(to: str) -> None:
    [number] = statements(f'<span data-claim="06.r">−5.5{to}**7.8**</span>'.replace("\n# ", "\n"))
    assert [*map(float, number.ends)] == [-5.5, 7.8]
    with pytest.raises(ValueError, match="smaller number first"):
        list(statements(f'<span data-claim="06.r">7.8{to}5.5</span>'.replace("\n# ", "\n")))


@pytest.mark.parametrize(
    "text, wrong",
    [
        ("4.1", False),
        ("4.2", True),
        ("4", False),
        ("5", True),
        ("3.9 to 4.1", False),
        ("3.8 to 4.2", False),  # rounded outwards
        ("3.7 to 4.1", True),
        ("3.9–4.3", True),
        ("3.85 to 4.1", True),
    ],
)
def test_prose_prints_nothing_outside_of_its_claim(text: str, wrong: bool) -> None:
    assert bool(prose_complaints([Stated(text, "06.r")], {"06.r": CLAIM})) == wrong


@given(st.floats(-1e6, 1e6), st.floats(0, 1e6), st.floats(-2, 2))
def test_a_claim_holds_within_its_tolerance(value: float, tolerance: float, share: float) -> None:
    measured = value + share * tolerance
    distance = abs(measured - value)
    if abs(distance - tolerance) > 1e-8 * max(1, tolerance):
        assert Claim("06.r", value, tolerance, "drawn").holds(measured) == (distance <= tolerance)


def test_prose_and_claims_are_compared() -> None:
    claims = {"06.r": CLAIM}
    assert prose_complaints([Stated("4.0", "06.r"), Stated("4", "06.r")], claims) == []
    complaints = prose_complaints([Stated("4.2", "06.r"), Stated("0.5", None), Stated("1", "06.s")], claims)
    assert [claim for claim, _ in complaints] == ["06.r", None, "06.s"]
    assert "prose prints 4.2, but claim 06.r is 4 ± 0.1" in complaints[0][1]


def test_measurements_and_claims_are_compared() -> None:
    known = {"06.r": CLAIM, "06.gpu": Claim("06.gpu", 1, 0, "exact", "gpu"), "07.x": Claim("07.x", 1, 0, "exact")}
    due = claims_of("06_toy", "cpu", known)
    assert due == [CLAIM]
    assert measurement_complaints(due, known, {"06.r": [4.05, 3.95]}) == []
    assert measurement_complaints(due, known, {}) == [("06.r", "claim 06.r was never measured")]
    complaints = measurement_complaints(due, known, {"06.r": [4.0, 4.2], "06.s": [1.0]})
    assert complaints == [
        ("06.r", "claim 06.r is 4 ± 0.1, measured 4.2"),
        ("06.s", "measured '06.s', which lessons/claims.toml does not have"),
    ]


@pytest.mark.parametrize(
    "text, complaint",
    [
        ('["06.r"]\nvalue = 1\ntolerance = 0.1', "expected value, tolerance, reason"),
        ('["06.r"]\nvalue = 1\ntolerance = 0.1\nreason = "x"\nunit = "s"', "expected value, tolerance, reason"),
        ('["06.r"]\nvalue = "1"\ntolerance = 0.1\nreason = "x"', "value is '1', expected a finite number"),
        ('["06.r"]\nvalue = 1\ntolerance = nan\nreason = "x"', "tolerance is nan"),
        ('["06.r"]\nvalue = 1\ntolerance = -1\nreason = "x"', "expected 0 or more"),
        ('["06.r"]\nvalue = 1\ntolerance = 0\nreason = " "', "where the tolerance comes from"),
        ('["06.r"]\nvalue = 1\ntolerance = 0\nreason = "x"\nprofile = "tpu"', "expected one of cpu, gpu"),
        ("06.r.value = 1", "06"),
        ("value =", "claims.toml"),
    ],
)
def test_a_claims_file_that_breaks_a_rule_is_refused(tmp_path: Path, text: str, complaint: str) -> None:
    (tmp_path / "lessons").mkdir()
    (tmp_path / "lessons" / "claims.toml").write_text(text)
    with pytest.raises(ClaimError, match=complaint):
        read_claims(tmp_path)


@given(st.lists(st.floats(-1e6, 1e6), min_size=2, max_size=6))
@example([0.0, 5e-324])
def test_a_proposal_covers_what_was_measured_and_is_valid_toml(measured: list[float]) -> None:
    proposed = proposal(CLAIM, measured)
    table = tomllib.loads(as_toml(proposed))["06.r"]
    assert Claim("06.r", **table) == proposed
    assert all(proposed.holds(value) for value in measured)


@pytest.mark.parametrize("value", [float("nan"), float("inf"), "four", None, [1, 2]])
def test_measure_wants_one_finite_number(value: Any) -> None:
    with pytest.raises((TypeError, ValueError), match="06.r"):
        measure("06.r", value)


# All together

MEASURES = "# %%\nfrom covlab.course import measure\nmeasure('01.r', 4 + seed / 100)"
PROSE = '# %% [markdown]\n# The ratio is <span data-claim="01.r">4.0</span>.'


def course_with_claim(
    root: Path, *cells: str, claim: str = '["01.r"]\nvalue = 4.0\ntolerance = 0.025\nreason = "measured"\n'
) -> None:
    path = write_lesson(root, "01_toy", *cells)
    path.write_text(
        path.read_text().replace('["parameters", "unread"]\nseed = 0\nprofile = "cpu"', '["parameters"]\nseed = 0')
    )
    (root / "lessons" / "claims.toml").write_text(claim)


def test_run_fails_when_a_claim_no_longer_holds_and_names_it(tmp_path: Path) -> None:
    course_with_claim(tmp_path, PROSE, MEASURES)
    assert CliRunner().invoke(main, ["course", "run", "--root", str(tmp_path)]).exit_code == 0
    results = json.loads((tmp_path / "build/course/results.json").read_text())
    assert results["claims"] == [
        {"claim": "01.r", "value": 4.0, "tolerance": 0.025, "reason": "measured", "measured": [4.0], "holds": True}
    ]

    done = CliRunner().invoke(main, ["course", "run", "--root", str(tmp_path), "-p", "seed", "3"])
    assert done.exit_code == 1
    assert "claim 01.r is 4 ± 0.025, measured 4.03" in done.output
    assert '<testcase classname="01_toy" name="01.r"' in (tmp_path / "build/course/junit.xml").read_text()


@pytest.mark.parametrize("prints, seed, said", [("4.02", 0, "write 4.00"), ("3.99 to 4.02", 3, "write 3.99 to 4.03")])
def test_prose_that_differs_from_the_run_as_printed_fails_the_lesson(
    tmp_path: Path, prints: str, seed: int, said: str
) -> None:
    claim = '["01.r"]\nvalue = 4.0\ntolerance = 0.05\nreason = "measured"\n'
    course_with_claim(tmp_path, PROSE.replace("4.0<", f"{prints}<"), MEASURES, claim=claim)
    done = CliRunner().invoke(main, ["course", "run", "--root", str(tmp_path), "-p", "seed", str(seed)])
    assert done.exit_code == 1
    assert f"print: prose prints {prints}, but this run measured" in done.output and said in done.output


def test_a_claim_of_no_lesson_is_refused(tmp_path: Path) -> None:
    course_with_claim(tmp_path, PROSE, MEASURES, claim='["1.r"]\nvalue = 4.0\ntolerance = 1\nreason = "x"\n')
    done = CliRunner().invoke(main, ["course", "run", "--root", str(tmp_path)])
    assert done.exit_code == 1
    assert "claims that belong to no lesson: 1.r" in done.output


def test_check_shows_the_spread_and_proposes_without_applying(tmp_path: Path) -> None:
    course_with_claim(tmp_path, PROSE, MEASURES)
    before = (tmp_path / "lessons/claims.toml").read_text()
    done = CliRunner().invoke(
        main, ["course", "check", "--root", str(tmp_path), "--seeds", "4", "--jobs", "2", "--update"]
    )
    assert "01.r: 4 ± 0.025, measured 4 … 4.03 over 4 values: DOES NOT HOLD" in done.output
    assert "prose prints 4.0, as every seed does" in done.output
    assert done.exit_code == 1
    assert (tmp_path / "lessons/claims.toml").read_text() == before
    assert tomllib.loads((tmp_path / "build/check/claims.toml").read_text()) == {
        "01.r": {"value": 4.015, "tolerance": 0.03, "reason": "twice the largest deviation over 4 seeds"}
    }


def test_check_that_measured_nothing_proposes_nothing(tmp_path: Path) -> None:
    course_with_claim(tmp_path, PROSE, "# %%\n1 / seed")
    done = CliRunner().invoke(main, ["course", "check", "--root", str(tmp_path), "--seeds", "1", "--update"])
    assert done.exit_code == 1
    assert "proposed" not in done.output.replace("none is proposed", "")
    assert not (tmp_path / "build/check/claims.toml").exists()


@pytest.mark.parametrize("text", ["", "{", "[]", "{}", '{"lessons": 5}', '{"lessons": [5], "passed": true}'])
def test_damaged_results_are_an_error_that_names_the_file(
    tmp_path: Path, text: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(invariant_pages, "invariant_pages", lambda: pytest.fail("seconds of work before the refusal"))
    course_with_claim(tmp_path, PROSE, MEASURES)
    (tmp_path / "build/course").mkdir(parents=True)
    (tmp_path / "build/course/results.json").write_text(text)
    for command in ("report", "site"):
        done = CliRunner().invoke(main, ["course", command, "--root", str(tmp_path)])
        assert done.exit_code == 1
        assert "results.json is damaged" in done.output
