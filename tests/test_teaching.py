"""TEACHING.md is correct: its lessons, minutes, questions, headings, commands and options exist."""

import re
from pathlib import Path

import pytest
from click.testing import CliRunner

from covlab.cli.main import main
from covlab.course.grading import COLUMNS
from covlab.course.paths import BUGS_PATH, STOPS

ROOT = Path(__file__).parents[1]
TEXT = (ROOT / "TEACHING.md").read_text(encoding="utf-8")
FLAT = " ".join(TEXT.split())
SOURCES = {path.stem[:2]: path.read_text(encoding="utf-8") for path in (ROOT / "lessons").glob("[0-9][0-9]_*.py")}
SECTIONS = dict(re.findall(r"^### (\d\d) · (.*?)(?=^##)", TEXT, re.MULTILINE | re.DOTALL))
"""{number: title, minutes and text}"""


def test_every_lesson_has_a_section_with_its_title_and_minutes() -> None:
    assert sorted(SECTIONS) == sorted(STOPS) == sorted(SOURCES)
    assert list(SECTIONS)[: len(BUGS_PATH)] == list(BUGS_PATH)
    for number, text in SECTIONS.items():
        heading = text.splitlines()[0]
        title = re.findall(rf"^# # {number} · (.*)$", SOURCES[number], re.MULTILINE)
        assert heading == f"{title[0]} ({STOPS[number].minutes} min)"
        assert all(f"*{part}:*" in text for part in ("They think", "Say", "Poll", "Board", "Skip"))


def test_minutes_are_those_of_the_paths() -> None:
    named = re.findall(r"(\d\d) \((\d+) min\)", TEXT)
    assert len(named) >= 3 and all(STOPS[number].minutes == int(minutes) for number, minutes in named)
    assert f"the bugs path, {sum(STOPS[number].minutes for number in BUGS_PATH)} minutes" in TEXT
    assert f"the whole course, {sum(stop.minutes for stop in STOPS.values())} minutes" in TEXT


@pytest.mark.parametrize("number", sorted(SECTIONS))
def test_questions_and_wrong_answers_are_those_of_the_lesson(number: str) -> None:
    poll = re.search(r"\*Poll:\*(.*?)\n- ", SECTIONS[number], re.DOTALL)
    assert poll
    questions = re.findall(r"`(\d\d\.\w+)`", poll[1])
    assert questions and all(re.search(rf'predict\(\s*"{question}"', SOURCES[number]) for question in questions)
    for choice in re.findall(r'"(.*?)"', " ".join(poll[1].split())):
        assert f'"{choice}"' in SOURCES[number], choice


@pytest.mark.parametrize("number", sorted(SECTIONS))
def test_what_to_skip_is_a_heading_of_the_lesson(number: str) -> None:
    skip = SECTIONS[number].split("*Skip:*")[1]
    for heading in re.findall(r'"(.*?)"', " ".join(skip.split())):
        assert f"# ## {heading.rstrip(',.')}\n" in SOURCES[number], heading


def test_commands_targets_options_and_columns_exist() -> None:
    commands = re.findall(r"`?\$? ?covlab (course \w+|watch)", TEXT)
    targets = re.findall(r"`make ([a-z-]+)", TEXT)
    assert commands and targets
    assert all(CliRunner().invoke(main, [*command.split(), "--help"]).exit_code == 0 for command in commands)
    makefile = (ROOT / "Makefile").read_text(encoding="utf-8")
    assert all(re.search(rf"^{target}:", makefile, re.MULTILINE) for target in targets)
    usage = CliRunner().invoke(main, ["course", "grade", "--help"]).output
    assert all(option in usage for option in re.findall(r"`(--\w+)`", TEXT))
    assert "30 seconds (`--seconds`)" in FLAT and "30.0" in usage
    assert all(f"`{column}`" in TEXT for column in COLUMNS)
