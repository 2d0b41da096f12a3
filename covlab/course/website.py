"""Build a static website of the executed lessons that works from a folder, without a network."""

import shutil
import subprocess
import sys
from collections.abc import Callable, Mapping
from pathlib import Path
from urllib.parse import unquote, urlsplit

from bs4 import BeautifulSoup

from covlab.course.course_report import fold_results, read_for_page, read_results
from covlab.course.editions import Lesson, caption, tags, write_notebook
from covlab.course.page_dangers import browser_address, inline_scripts, page_dangers
from covlab.course.website_pages import DOWNLOADS, GUIDES, WATCH_GUIDE, add_header, write_pages

CONF = """
project = "covlab"
html_title = "covlab: training bugs that raise no exception"
extensions = ["myst_nb", "sphinx.ext.autodoc", "sphinx.ext.napoleon", "covlab.course.website_extension"]
autodoc_member_order = "bysource"
autodoc_typehints_format = "short"
autodoc_preserve_defaults = True
napoleon_numpy_docstring = False
default_role = "code"  # docstrings have `code` in single backticks, as Markdown does
python_maximum_signature_line_length = 90
add_module_names = False
smartquotes = False
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
html_css_files = ["website.css"]
html_extra_path = ["extra"]
"""

SOLUTION = "A solution: try the exercise first, then open this."
STYLE = Path(__file__).with_name("website.css")
THEME_PAGES = ("genindex.html", "search.html")  # pages without anything from a lesson


class WebsiteError(Exception):
    """The site cannot be built, has a broken link or a picture without alternative text, or needs a network."""


def build_website(root: Path, lessons: list[Lesson], invariants: Callable[[], Mapping[str, str]] = dict) -> Path:
    """Make root/build/site from the executed notebooks of the last run, and from the guides; return its first page.

    invariants: returns {code: a page of Markdown about it}. It takes seconds, so not before a lesson is refused.

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
                cell.metadata.mystnb = {"code_prompt_show": SOLUTION, "code_prompt_hide": SOLUTION}
            if "hide-input" in tags(cell):
                cell.metadata.mystnb = {"code_prompt_show": caption(cell), "code_prompt_hide": caption(cell)}
        fold_results(notebook)
        add_header(notebook, lesson, lessons)
        write_notebook(notebook, source / f"{lesson.name}.ipynb")
        write_notebook(lesson.student, source / "extra" / DOWNLOADS / f"{lesson.name}.ipynb")
    (source / "conf.py").write_text(CONF, encoding="utf-8")
    for path in [*(root / guide for guide in (WATCH_GUIDE, *GUIDES)), *sorted((root / "figures").glob("*.png")), STYLE]:
        if path.exists():
            copy = source / ("style" if path is STYLE else path.parent.relative_to(root)) / path.name
            copy.parent.mkdir(parents=True, exist_ok=True)
            shutil.copyfile(path, copy)
    write_pages(source, lessons, invariants())
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
