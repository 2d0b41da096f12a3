"""Build a static website of the executed lessons that works from a folder, without a network."""

import shutil
import subprocess
import sys
from collections.abc import Callable
from html import escape
from pathlib import Path
from typing import Any
from urllib.parse import unquote, urlsplit

from bs4 import BeautifulSoup
from nbformat import NotebookNode

from covlab.course.course_report import fold_results, read_for_page, read_results
from covlab.course.editions import Lesson, caption, tags, write_notebook
from covlab.course.page_dangers import browser_address, inline_scripts, page_dangers
from covlab.course.paths import PATHS, STOPS, neighbors, position_on
from covlab.course.prose import mathml_or_code

CONF = """
project = "covlab"
html_title = "covlab: training bugs that raise no exception"
extensions = ["myst_nb", "covlab.course.website"]
html_theme = "sphinx_book_theme"
html_theme_options = {
    "pygments_light_style": "a11y-high-contrast-light", "pygments_dark_style": "a11y-high-contrast-dark",
    "home_page_in_toc": True, "use_download_button": False, "use_fullscreen_button": False,
    "navbar_persistent": [], "footer_content_items": [],
}
html_copy_source = False
nb_execution_mode = "off"
nb_merge_streams = True
nb_ipywidgets_js = {}
myst_enable_extensions = ["dollarmath"]
myst_heading_anchors = 3
html_math_renderer = "mathml"
html_static_path = ["style"]
html_css_files = ["covlab.css"]
"""

INDEX = """# covlab

Training bugs that raise no exception: the lessons with the results of their last run. Solutions and outcomes are
folded. Sliders are shown as still pictures.

{paths}

```{{toctree}}
:hidden:

{lessons}
```
"""
INTRODUCTIONS = {
    "Bugs path": "The shortest way to the bugs. You need Python and some PyTorch, and nothing about radio.",
    "Whole course": "Every lesson, in order: the bugs, and a network that estimates covariances for real.",
}
STYLE = """
.covlab-paths { border-left: 4px solid #0072B2; padding-left: .9em; }
details > summary { cursor: pointer; }
@media (max-width: 600px) { table { display: block; overflow-x: auto; } }
"""

THEME_PAGES = ("genindex.html", "search.html")  # pages without anything from a lesson


class WebsiteError(Exception):
    """The site cannot be built, has a broken link or a picture without alternative text, or needs a network."""


def build_website(root: Path, lessons: list[Lesson]) -> Path:
    """Make root/build/site from the executed notebooks of the last run; return its first page.

    Raises WebsiteError if a lesson did not pass or has changed since its last run, or if the site has a problem.
    """
    executed, source, website = root / "build" / "course", root / "build" / "site-source", root / "build" / "site"
    require_fresh(executed / "results.json", lessons)
    for folder in (source, website):
        shutil.rmtree(folder, ignore_errors=True)
    for lesson in lessons:
        notebook = read_for_page(executed / f"{lesson.name}.ipynb")
        for cell in notebook.cells:
            if "solution" in tags(cell):
                cell.metadata.tags = [*tags(cell), "hide-cell"]
                cell.metadata.mystnb = {"code_prompt_show": "Solution", "code_prompt_hide": "Solution"}
            if "hide-input" in tags(cell):
                cell.metadata.mystnb = {"code_prompt_show": caption(cell), "code_prompt_hide": caption(cell)}
        fold_results(notebook)
        _show_paths(notebook, lesson, lessons)
        write_notebook(notebook, source / f"{lesson.name}.ipynb")
    (source / "conf.py").write_text(CONF, encoding="utf-8")
    names = "\n".join(each.name for each in lessons)
    (source / "index.md").write_text(INDEX.format(paths=_paths(lessons), lessons=names), encoding="utf-8")
    (source / "style").mkdir()
    (source / "style" / "covlab.css").write_text(STYLE, encoding="utf-8")
    sphinx = [sys.executable, "-m", "sphinx", "-q", "-W", "--keep-going", "-d", str(source / ".doctrees")]
    if subprocess.run([*sphinx, str(source), str(website)], check=False).returncode:
        raise WebsiteError("sphinx printed warnings (see above), which count as errors")
    complaints = website_complaints(website)
    if complaints:
        raise WebsiteError("\n".join(complaints))
    return website / "index.html"


def make_handout(website: Path) -> Path:
    """Pack the site into one archive next to it, for a class without a network; return its path."""
    return Path(shutil.make_archive(str(website.with_name("covlab-handout")), "zip", website.parent, website.name))


def website_complaints(website: Path) -> list[str]:
    """Return a line for each broken internal link, picture without alternative text, and thing that a page may fetch
    from a network or run.

    The theme's own scripts may run: the files in _static, and what stands in pages that show no lesson.
    """
    website = website.resolve()
    pages = {
        path: BeautifulSoup(path.read_text(encoding="utf-8"), "html.parser")
        for path in sorted(website.rglob("*.html"))
        if "_static" not in path.parts  # themes keep templates there, which are no pages of the site
    }
    anchors = {
        path: {"", "top"} | {str(tag[key]) for key in ("id", "name") for tag in page.select(f"[{key}]")}
        for path, page in pages.items()
    }
    themes = {script for path in pages if path.name in THEME_PAGES for script in inline_scripts(path)}
    complaints = []
    for path, page in pages.items():
        name = path.relative_to(website)
        complaints += [
            f"{name}: a picture without alternative text: {str(image.get('src', ''))[:60]}"
            for image in page("img")
            if not str(image.get("alt", "")).strip()
        ]
        complaints += [f"{name}: {each}" for each in page_dangers(path.read_text(encoding="utf-8"), themes)]
        for link in dict.fromkeys(str(tag[key]) for key in ("href", "src") for tag in page.select(f"[{key}]")):
            parts = urlsplit(browser_address(link))
            if parts.scheme or parts.netloc:
                continue
            target = (path.parent / unquote(parts.path)).resolve() if parts.path else path
            if not target.exists():
                complaints.append(f"{name}: broken link {link}")
            elif unquote(parts.fragment) not in anchors.get(target, {unquote(parts.fragment)}):
                complaints.append(f"{name}: no such anchor on the page: {link}")
    return complaints


def _paths(lessons: list[Lesson]) -> str:
    """Return a heading and a table for each path, as Markdown."""
    known = {lesson.name[:2]: lesson for lesson in lessons}
    parts = []
    for name, path in PATHS.items():
        stops = [STOPS[number] for number in path if number in known]
        rows = [
            f"| {position} | [{known[stop.number].title}]({known[stop.number].name}.ipynb) | {stop.minutes} "
            f"| {stop.requirements} |"
            for position, stop in enumerate(stops, 1)
        ]
        if rows:
            minutes = sum(stop.minutes for stop in stops)
            table = "\n".join(["| | Lesson | Minutes | Needs |", "|---:|---|---:|---|", *rows])
            parts.append(f"## {name}: {minutes} minutes\n\n{INTRODUCTIONS[name]}\n\n{table}")
    others = [f"- [{lesson.title}]({lesson.name}.ipynb)" for number, lesson in known.items() if number not in STOPS]
    if others:
        parts.append("\n".join(others))
    return "\n\n".join(parts)


def _show_paths(notebook: NotebookNode, lesson: Lesson, lessons: list[Lesson]) -> None:
    """Show on top of a lesson's page its position on both paths, with links to the lessons before and after it.

    This replaces the line of the header that has the positions; without such a line it comes after the title.
    """
    number = lesson.name[:2]
    top = next((cell for cell in notebook.cells if cell.cell_type == "markdown"), None)
    if number not in STOPS or top is None:
        return
    stop, known = STOPS[number], {each.name[:2]: each for each in lessons}
    lines = []
    for name, path in PATHS.items():
        if position := position_on(number, path):
            around = zip(("previous", "next"), neighbors(number, path, known), strict=True)
            links = [f"{word}: [{known[to].title}]({known[to].name}.ipynb)" for word, to in around if to]
            lines.append(" · ".join([f"**{name}** {position}", *links]))
    text = "<br>".join([*lines, f"{stop.minutes} minutes · {stop.requirements}"])
    box = f'<div class="covlab-paths">\n\n{text}\n\n</div>'
    paragraphs = top.source.split("\n\n")
    header = [place for place, text in enumerate(paragraphs) if text.startswith(("**Bugs path**", "**Whole course**"))]
    if header:
        paragraphs[header[0]] = box
    else:
        title = next((place for place, text in enumerate(paragraphs) if text.startswith("# ")), -1)
        paragraphs.insert(title + 1, box)
    top.source = "\n\n".join(paragraphs)


def require_fresh(results: Path, lessons: list[Lesson]) -> None:
    """Raise WebsiteError if a lesson did not pass in the last run, or has changed since."""
    try:
        last = read_results(results)["lessons"]
    except ValueError as error:
        raise WebsiteError(str(error)) from error
    passed = {each["lesson"]: each["source_sha256"] for each in last if each["status"] == "passed"}
    stale = [lesson.name for lesson in lessons if passed.get(lesson.name) != lesson.digest]
    if stale:
        raise WebsiteError(f"did not run or pass, or changed since: {', '.join(stale)}; run `make course` first")


def setup(app: Any) -> None:
    """Let Sphinx show math as MathML instead of MathJax, which is loaded from a server.

    Screen readers get the caption of a fold as its name. MyST-NB would give all folds the same name.
    """
    from docutils.nodes import SkipNode
    from myst_nb.sphinx_ import HideCodeCellNode, depart_HideCellInput

    def fold(writer: Any, node: Any) -> None:
        caption = escape(node["prompt_show"])
        writer.body.append(
            f'<details class="admonition hide {" ".join(node["classes"])}"><summary aria-label="{caption}">'
            f'<p class="collapsed admonition-title">{caption}</p><p class="expanded admonition-title">{caption}</p>'
            "</summary>"
        )

    app.add_node(HideCodeCellNode, override=True, html=(fold, depart_HideCellInput))

    def visitors(display: bool) -> tuple[Callable[[Any, Any], None], None]:
        def visit(writer: Any, node: Any) -> None:
            writer.body.append(mathml_or_code(node.astext(), display))
            raise SkipNode

        return visit, None

    app.add_html_math_renderer("mathml", visitors(display=False), visitors(display=True))
