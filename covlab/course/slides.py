"""Make a deck of slides from each executed lesson: one HTML file that needs no network and no other file.

A deck has a title, a slide per picture with its description below it, and each prediction before its outcome, which
stays folded until somebody opens it. Code and prose stay in the lesson.
"""

import base64
import hashlib
import re
from collections.abc import Iterator
from dataclasses import dataclass
from html import escape
from pathlib import Path

from bs4 import BeautifulSoup
from jinja2 import Template
from nbformat import NotebookNode

from covlab.course.course_report import read_for_page
from covlab.course.editions import Lesson, tags
from covlab.course.harmless_html import harmless
from covlab.course.prose import render
from covlab.course.website import require_fresh
from covlab.durable_files import write_atomically

PAGE = Path(__file__).with_name("slides.html")
SCRIPT = Path(__file__).with_name("slides.js")
FOLDED = "The outcome: ask the class first, then press the space bar."
HEADING = re.compile(r"^#{1,6} +(.+)$", re.MULTILINE)


@dataclass(frozen=True)
class Slide:
    """One slide. kind: "question", "outcome", or "" for a picture. body: HTML."""

    heading: str
    body: str
    kind: str = ""


def write_slides(root: Path, lessons: list[Lesson]) -> list[Path]:
    """Write root/build/slides/NN_name.html for each lesson from its last run; return the files.

    Raises WebsiteError if a lesson did not pass or has changed since its last run.
    """
    executed, folder = root / "build" / "course", root / "build" / "slides"
    require_fresh(executed / "results.json", lessons)
    folder.mkdir(parents=True, exist_ok=True)
    written = []
    for lesson in lessons:
        page = deck(read_for_page(executed / f"{lesson.name}.ipynb"))
        path = folder / f"{lesson.name}.html"
        write_atomically(path, lambda new, page=page: new.write_text(page, encoding="utf-8"))  # type: ignore[misc]
        written.append(path)
    return written


def deck(notebook: NotebookNode) -> str:
    """Return the deck of an executed notebook as one HTML page."""
    first = next((cell.source for cell in notebook.cells if cell.cell_type == "markdown"), "# Lesson")
    title, _, rest = first.lstrip("# ").partition("\n")
    script = SCRIPT.read_text(encoding="utf-8")
    template = Template(PAGE.read_text(encoding="utf-8"), autoescape=True, trim_blocks=True)
    return template.render(
        title=title.strip(),
        question=harmless(render(rest)),
        slides=list(slides(notebook)),
        script=script,
        digest=base64.b64encode(hashlib.sha256(script.encode()).digest()).decode(),
    )


def slides(notebook: NotebookNode) -> Iterator[Slide]:
    """Yield a slide for each prediction, outcome and picture, in the lesson's order."""
    heading, asked = "", set[str]()
    for cell in notebook.cells:
        if cell.cell_type == "markdown":
            heading = (HEADING.findall(cell.source) or [heading])[-1]
        elif cell.cell_type == "code" and "solution" not in tags(cell):
            for output in cell.outputs:
                yield from _of_output(output.get("data", {}).get("text/html", ""), _as_text(heading), asked)


def _of_output(html: str, heading: str, asked: set[str]) -> Iterator[Slide]:
    """Yield the slides of one output. asked: the questions so far; a new one is added."""
    page = BeautifulSoup(html, "html.parser")
    question, choices = page.find("p"), page.find("ul")
    text = question.get_text().removeprefix("Predict.").strip() if question else ""
    if page.find("b", string="Predict.") and question and choices:
        asked.add(text)
        yield Slide("", harmless(f"{question}{choices}"), "question")
    elif (folded := page.find("details")) and (summary := page.find("summary")):
        summary.string = FOLDED
        if text in asked and question:
            heading = text
            question.decompose()
        yield Slide(heading, harmless(str(folded)), "outcome")
    else:
        for image in page("img"):
            alt = str(image.get("alt", ""))
            image["style"] = ""
            for size in ("width", "height"):
                del image[size]
            body = f"<figure>{harmless(str(image))}<figcaption>{escape(alt)}</figcaption></figure>"
            before = page.find("b")  # the title of an explorer's still
            yield Slide(before.get_text() if before else heading, body)


def _as_text(markdown: str) -> str:
    return BeautifulSoup(render(markdown), "html.parser").get_text().strip()
