"""The site shows what the lessons show, needs no network, and has no broken link."""

import zipfile
from pathlib import Path

import pytest
from click.testing import CliRunner
from toys import CHECK, EXERCISE, SOLUTION, write_lesson

from covlab.cli.main import main
from covlab.course.editions import read_lessons
from covlab.course.website import WebsiteError, build_website, website_complaints

PICTURE = """# %%
import matplotlib.pyplot as plt
from covlab.plots import show
figure, axes = plt.subplots()
axes.plot([2, 1])
show(figure, "a line that falls from two to one")"""
PROSE = (
    "# %% [markdown]\n# # A lesson\n#\n# The ratio is $\\frac{a}{b}$; see [the next](02_next.ipynb).\n#\n# $$a = b$$"
)
WIDGET = "# %%\nimport ipywidgets\nipywidgets.IntSlider()"


@pytest.fixture(scope="module")
def root(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A course of two lessons that has been run."""
    folder = tmp_path_factory.mktemp("course")
    write_lesson(folder, "01_first", PROSE, PICTURE, WIDGET, EXERCISE, SOLUTION, CHECK)
    write_lesson(folder, "02_next", "# %% [markdown]\n# # The next")
    done = CliRunner().invoke(main, ["course", "run", "--root", str(folder), "--jobs", "2"])
    assert done.exit_code == 0, done.output
    return folder


def test_the_description_of_a_picture_reaches_report_and_site(root: Path) -> None:
    site = build_website(root, read_lessons(root)).parent
    for path in (root / "build/course/index.html", site / "01_first.html"):
        assert 'alt="a line that falls from two to one"' in path.read_text()
    page = (site / "01_first.html").read_text()
    assert "<mfrac>" in page
    assert 'href="02_next.html"' in page
    assert "IntSlider" not in page.replace("ipywidgets.IntSlider()", "").replace("IntSlider</span>", "")
    assert website_complaints(site) == []


def test_the_handout_is_the_site(root: Path) -> None:
    done = CliRunner().invoke(main, ["course", "site", "--root", str(root), "--handout"])
    assert done.exit_code == 0, done.output
    with zipfile.ZipFile(root / "build/covlab-handout.zip") as archive:
        assert {"site/index.html", "site/01_first.html"} <= set(archive.namelist())


def test_a_lesson_that_changed_since_it_ran_gets_no_site(root: Path, tmp_path: Path) -> None:
    (tmp_path / "build").symlink_to(root / "build")
    write_lesson(tmp_path, "01_first", PROSE)
    with pytest.raises(WebsiteError, match="01_first; run `make course`"):
        build_website(tmp_path, read_lessons(tmp_path))


@pytest.mark.parametrize(
    "html, complaint",
    [
        ('<a href="b.html">', "broken link b.html"),
        ('<a href="#there">', "no such anchor"),
        ('<a href="a.html#there">', "no such anchor"),
        ('<img src="data:image/png;base64,AA==">', "without alternative text"),
        ('<script src="https://example.org/x.js">', "would fetch https://example.org/x.js"),
        ('<link href="//example.org/x.css">', "would fetch"),
        ('<a href="https://example.org/">', None),
        ('<p id="here"><a href="a.html#here">', None),
    ],
)
def test_what_is_wrong_with_a_page_is_found(tmp_path: Path, html: str, complaint: str | None) -> None:
    (tmp_path / "a.html").write_text(html)
    found = website_complaints(tmp_path)
    assert len(found) == (complaint is not None)
    assert complaint is None or complaint in found[0]
