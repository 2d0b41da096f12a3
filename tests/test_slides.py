"""Laws of the slides: one file without a network, every picture of the lesson described, questions before answers."""

import re
from pathlib import Path
from typing import Any

import nbformat
from browser import chromium, quiet
from bs4 import BeautifulSoup
from click.testing import CliRunner
from playwright.sync_api import sync_playwright
from toys import TITLE, write_lesson

from covlab.cli.main import main
from covlab.course.page_dangers import page_dangers
from covlab.course.slides import SCRIPT, deck

PIXEL = (
    "data:image/png;base64,iVBORw0KGgoAAAANSUhEUgAAAAEAAAABCAYAAAAfFcSJAAAADUlEQVR42mNk"
    "+M9QDwADhgGAWjR9awAAAABJRU5ErkJggg=="
)
QUESTION = "<p><b>Predict.</b> The step is …</p><ul><li>long</li><li>short &lt;b&gt;</li></ul><p>Run this cell.</p>"
OUTCOME = (
    "<details><summary>The outcome</summary><div><b>Outcome: long</b>"
    "<p>The step is …</p><p>Because.</p></div></details>"
)
TABLE = "<table><tr><td>12</td></tr></table>"
HOSTILE = (
    '<script>alert(1)</script><img alt="a <b>" src="https://example.org/a.png" onerror="alert(1)">'
    f'<img alt="second" src="{PIXEL}" width="9000"><iframe src="https://example.org"></iframe>'
)


def picture(alt: str) -> str:
    return f'<img alt="{alt}" src="{PIXEL}" width="640">'


def notebook(*parts: str) -> nbformat.NotebookNode:
    """Parts that begin with # are Markdown cells; the others are outputs of code cells."""
    cells = []
    for part in parts:
        if part.startswith("#"):
            cells.append(nbformat.v4.new_markdown_cell(part))
        else:
            output = nbformat.v4.new_output("display_data", data={"text/html": part})
            cells.append(nbformat.v4.new_code_cell("secret_code()", outputs=[output]))
    return nbformat.v4.new_notebook(cells=cells)


LESSON = (
    *("# 05 · Steps <b>\n\n**Question.** How long is $x^2$?", "## Predict", QUESTION, "## The `run`"),
    *(picture("first & only"), TABLE, OUTCOME, HOSTILE),
)


def sections(page: str) -> list[Any]:
    return list(BeautifulSoup(page, "html.parser").select("section"))


def test_a_deck_has_title_questions_outcomes_and_pictures_in_order() -> None:
    title, question, first, outcome, *others = sections(deck(notebook(*LESSON)))
    assert "05 · Steps" in title.get_text() and title.find("math")
    assert [li.get_text() for li in question("li")] == ["long", "short <b>"]
    assert (
        "long" not in outcome.get_text().split("Outcome:")[0]
        and outcome.details
        and "open" not in outcome.details.attrs
    )
    assert outcome.h2.get_text() == "The step is …" and outcome.get_text().count("The step is") == 1
    assert "Run this cell" not in question.get_text()  # a slide has no cell
    for slide, alt in zip([first, *others], ["first & only", "a <b>", "second"], strict=True):
        assert slide.img["alt"] == alt == slide.figcaption.get_text()
        assert slide.h2.get_text() == "The run"
    assert "secret_code" not in deck(notebook(*LESSON))


def test_a_deck_fetches_nothing_and_runs_its_own_script_alone() -> None:
    page = deck(notebook(*LESSON))
    assert page_dangers(page, {SCRIPT.read_text(encoding="utf-8").strip()}) == []
    assert "https://" not in "".join(re.findall(r'(?:src|href)="[^"]*"', page))
    assert page.count("<script>") == 1 and "default-src 'none'" in page


def test_every_picture_is_on_a_slide() -> None:
    alts = [f"picture {number}" for number in range(20)]
    page = deck(notebook("# 01 · Many", *map(picture, alts)))
    assert [image["alt"] for image in BeautifulSoup(page, "html.parser")("img")] == alts


def test_slides_are_made_of_the_last_run_of_this_very_lesson(tmp_path: Path) -> None:
    write_lesson(tmp_path, "12_a", TITLE)
    result = CliRunner().invoke(main, ["course", "slides", "--root", str(tmp_path)])
    assert result.exit_code == 1 and "covlab course run" in result.output
    assert not (tmp_path / "build" / "slides").exists()


def test_keys_turn_the_slides_and_open_an_outcome(tmp_path: Path) -> None:
    path = tmp_path / "deck.html"
    path.write_text(deck(notebook(*LESSON)), encoding="utf-8")
    program = chromium()
    with sync_playwright() as playwright, playwright.chromium.launch(executable_path=program) as browser:
        page = browser.new_page()
        with quiet(page):  # a script that the policy forbids would be an error
            page.goto(path.as_uri())
            number = page.locator("footer")
            for key, expected in [
                *(("ArrowLeft", 1), ("ArrowRight", 2), ("PageDown", 3), ("ArrowDown", 4), ("End", 6)),
                *(("ArrowRight", 6), ("Home", 1), ("PageDown", 2), ("ArrowUp", 1), ("End", 6), ("PageUp", 5)),
                *(("ArrowLeft", 4), ("x", 4)),
            ]:
                page.keyboard.press(key)
                assert number.text_content() == f"{expected} / 6"
                assert page.locator("section:visible").count() == 1
            for shown in (True, False):
                page.keyboard.press("Space")
                assert page.get_by_text("Because.").is_visible() == shown
            page.reload()
            assert number.text_content() == "4 / 6"
