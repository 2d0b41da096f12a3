"""The site shows what the lessons show, needs no network, and has no broken link."""

import re
import zipfile
from pathlib import Path
from typing import Literal

import nbformat
import pytest
from bs4 import BeautifulSoup
from click.testing import CliRunner
from toys import CHECK, EXERCISE, SOLUTION, write_lesson

from covlab.cli.main import main
from covlab.course.editions import read_lessons, tags
from covlab.course.harmless_html import harmless
from covlab.course.lesson_markdown import with_aligned_numbers, with_links
from covlab.course.page_dangers import page_dangers
from covlab.course.predictions import FOLDED as FOLDED_OUTCOME
from covlab.course.website import WebsiteError, build_website, website_complaints
from covlab.course.website_pages import API, GUIDES, WATCH_GUIDE
from covlab.watch.invariant_pages import invariant_page
from covlab.watch.invariants import INVARIANTS, TITLES
from covlab.watch.invariants.framework_advice import advice_by_framework
from covlab.watch.invariants.w13_no_batch_statistics import NoBatchStatistics
from covlab.widgets import EXPLORERS

ROOT = Path(__file__).parents[1]
PICTURE = """# %%
import matplotlib.pyplot as plt
from covlab.plots import show
figure, axes = plt.subplots()
axes.plot([2, 1])
show(figure, "a line that falls from two to one")"""
PROSE = (
    "# %% [markdown]\n# # A lesson\n#\n# The ratio is $\\frac{a}{b}$; see [the next](02_next.ipynb).\n#\n# $$a = b$$"
)
HEADER_LINE = "# **Bugs path** 2 of 6 · **Whole course** 2 of 3 · 999 minutes · needs nothing"
FOLDED = '# %% tags=["hide-input"]\n# Draws {nothing} at all\nprint("drawn")'
ASKS = """# %%
from covlab.course import measure, outcome, predict
predict("01.toy", "The answer is …", ["low", "high"])
predict("01.other", "The other answer is …", ["low", "high"])

# %% tags=["hide-input"]
# Shows your prediction and the outcome
print("the value below 3 < 4")
outcome("01.toy", "high", because="the explanation")
outcome("01.other", "high")
measure("01.toy", 100 / 8)

# %% tags=["hide-input"]
# Shows the results
from covlab.plots import show, table
table(["which", "error"], [("the result in a table", 0.1)])
show(figure, "the result in a picture")"""
WIDGET = "# %%\nimport ipywidgets\nipywidgets.IntSlider()"
EXPLORER = "# %%\nfrom covlab.widgets import NMSEExplorer\nNMSEExplorer().show()"


@pytest.fixture(scope="module")
def root(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A course of two lessons that has been run."""
    folder = tmp_path_factory.mktemp("course")
    write_lesson(folder, "01_first", PROSE, PICTURE, WIDGET, EXPLORER, FOLDED, ASKS, EXERCISE, SOLUTION, CHECK)
    write_lesson(folder, "02_next", "# %% [markdown]\n# # The next\n#\n# As in `a/b#1` and pytorch/pytorch#16560.")
    write_lesson(folder, "05_bug", f"# %% [markdown]\n# # The bug\n#\n# **Question.** Which?\n#\n{HEADER_LINE}")
    claim = '["01.toy"]\nvalue = 12.5\ntolerance = 0\nreason = "exact"\n'
    (folder / "lessons" / "claims.toml").write_text(claim)
    done = CliRunner().invoke(main, ["course", "run", "--root", str(folder), "--jobs", "2"])
    assert done.exit_code == 0, done.output
    return folder


@pytest.fixture(scope="module")
def site(root: Path) -> Path:
    """The folder of the website of that course."""
    for name in (WATCH_GUIDE, *GUIDES, "figures"):
        (root / name).parent.mkdir(exist_ok=True)
        (root / name).symlink_to(ROOT / name)
    done = CliRunner().invoke(main, ["course", "site", "--root", str(root), "--handout"])
    assert done.exit_code == 0, done.output
    return root / "build" / "site"


def test_the_description_of_a_picture_reaches_report_and_site(root: Path, site: Path) -> None:
    for path in (root / "build/course/index.html", site / "01_first.html"):
        assert 'alt="a line that falls from two to one"' in path.read_text()
    page = (site / "01_first.html").read_text()
    assert "<mfrac>" in page
    assert 'href="02_next.html"' in page
    stills = BeautifulSoup(page, "html.parser").select(".covlab-still")
    assert len([still for still in stills if still.find("img", alt=True)]) == 1 and "covlab-live" not in page
    assert "IntSlider" not in page.replace("ipywidgets.IntSlider()", "").replace("IntSlider</span>", "")
    assert website_complaints(site) == []


@pytest.mark.slow
@pytest.mark.parametrize(
    "page_of",
    ["course/index", "site/index", "site/01_first", "site/docs/watch", "site/watch/W01", "site/api/training"],
)
@pytest.mark.parametrize("width", [390, 911, 1366], ids=["phone", "150 %", "laptop"])
@pytest.mark.parametrize("scheme", ["light", "dark"])
def test_axe_finds_nothing_on_the_pages_and_they_do_not_scroll_sideways(
    root: Path, site: Path, page_of: str, width: int, scheme: Literal["light", "dark"]
) -> None:
    playwright = pytest.importorskip("playwright.sync_api")
    from browser import chromium, violations

    with playwright.sync_playwright() as started:
        browser = started.chromium.launch(executable_path=chromium(), args=["--no-sandbox"])
        context = browser.new_context(viewport={"width": width, "height": 700}, color_scheme=scheme)
        page = context.new_page()
        page.goto(f"file://{root}/build/{page_of}.html")
        page.evaluate("document.querySelectorAll('details').forEach(each => each.open = true)")
        assert page.evaluate("document.documentElement.scrollWidth - document.documentElement.clientWidth") == 0
        assert violations(page) == []


def test_pages_fold_code_by_its_caption_and_outcomes_by_a_question_and_show_no_measurement(
    root: Path, site: Path
) -> None:
    for path in (root / "build/course/index.html", site / "01_first.html"):
        page = BeautifulSoup(path.read_text(), "html.parser")
        folded = {  # the site has two captions, for closed and open
            " ".join((each.summary.select_one(".collapsed") or each.summary).text.split()): each.text
            for each in page("details")
            if each.summary
        }
        assert "drawn" in folded["Draws {nothing} at all"]
        assert "the explanation" in folded[FOLDED_OUTCOME]
        assert 'outcome("01.toy"' in " ".join(folded["Shows your prediction and the outcome"].split())
        results = ("the value below 3 < 4", "the result in a table", "the result in a picture")
        [outcome] = [each for each in page("details") if each.summary and each.summary.text.strip() == FOLDED_OUTCOME]
        assert all(result in outcome.text + str(outcome("img")) for result in results)
        for summary in page.select("article details > summary[aria-label]"):
            assert summary["aria-label"] in [caption.text for caption in summary("p")]
        outside = BeautifulSoup(path.read_text(), "html.parser")
        for details in outside.select("article details") or outside.select("details"):
            details.decompose()
        assert "The answer is …" in outside.text and "the explanation" not in outside.text
        assert not any(result in str(outside) for result in results)
        assert "Run this cell" not in page.text
    assert "12.5" not in (site / "01_first.html").read_text()  # what was measured


def test_the_site_shows_both_paths_and_leads_along_them(site: Path) -> None:
    index = BeautifulSoup((site / "index.html").read_text(), "html.parser")
    bugs, whole = index.select("article table") or index("table")
    rows = [[cell.text for cell in row("td")] for row in whole.select("tbody tr")]
    assert [link["href"] for link in bugs("a")] == ["05_bug.html"]
    assert [row[2:] for row in rows] == [["45", "00"], ["40", "helpful: 01"], ["45", "nothing"]]
    lessons = [link["href"] for link in whole.select("td:nth-child(2) a")]
    assert lessons == ["01_first.html", "02_next.html", "05_bug.html"]
    cards = index.select(".covlab-card")
    assert [card("strong")[0].text for card in cards] == ["Bugs path", "Whole course"]
    assert [card("a")[0]["href"] for card in cards] == ["05_bug.html", "01_first.html"]
    assert "3 lessons, 130 minutes" in cards[1].text
    assert [link["href"] for link in index.select(".covlab-buttons a")] == ["01_first.html", "docs/watch.html"]
    [box] = BeautifulSoup((site / "02_next.html").read_text(), "html.parser").select(".covlab-paths")
    notebook = "downloads/02_next.ipynb"
    assert [link["href"] for link in box("a")] == ["01_first.html", "05_bug.html", notebook]
    assert (site / notebook).exists() and "make lab" in box.text
    assert "Bugs path" not in box.text and "3 of 12" in box.text and "40 minutes" in box.text
    page = BeautifulSoup((site / "05_bug.html").read_text(), "html.parser")
    [box] = page.select(".covlab-paths")
    assert [link["href"] for link in box("a")][:-1] == ["02_next.html"]
    assert "2 of 6" in box.text and "6 of 12" in box.text and "999" not in page.text


def test_notebooks_to_download_have_no_solutions_and_no_outputs(site: Path) -> None:
    for path in (site / "downloads").iterdir():
        cells = nbformat.read(path, as_version=4).cells
        assert not any("solution" in tags(cell) or cell.get("outputs") for cell in cells)


def test_each_invariant_has_a_page_with_all_that_its_class_says(site: Path) -> None:
    index = BeautifulSoup((site / "watch/index.html").read_text(), "html.parser")
    assert [link["href"] for link in index.select("article li a")] == [f"{code}.html" for code in ("W00", *TITLES)]
    for invariant in INVARIANTS:
        page = " ".join(BeautifulSoup((site / f"watch/{invariant.code}.html").read_text(), "html.parser").text.split())
        own = {name: value for name, value in vars(invariant).items() if isinstance(value, str) and name[0] != "_"}
        for text in (invariant.title[1:], *(value for name, value in own.items() if name not in ("code", "title"))):
            assert " ".join(text.replace("`", "").split())[1:] in page, invariant.code
        assert all(f"{code} · " in page for code in invariant.consequences)
        for action in invariant.actions.values():
            assert all(f"{name}: " in page for name in advice_by_framework(action))


def test_what_a_class_says_besides_becomes_a_section_of_its_page() -> None:
    class Explained(NoBatchStatistics):
        explanation = "Every micro-batch has statistics of its own, and `BatchNorm2d` uses those."
        faulty_example = """
            for x in micro_batches:
                norm(x).mean().backward()
        """

    page = invariant_page(Explained)
    assert page.startswith(f"# {Explained.code} · No batch statistics under accumulation\n")
    assert f"\n## Explanation\n\n{Explained.explanation}\n" in page
    assert "\n## Faulty example\n\n```python\nfor x in micro_batches:\n    norm(x).mean().backward()\n```\n" in page
    assert NoBatchStatistics.fix[1:] in page and NoBatchStatistics.nothing_to_check[1:] in page


def test_the_reference_has_every_name_that_texts_and_lessons_import(site: Path) -> None:
    pages = [BeautifulSoup(path.read_text(), "html.parser") for path in (site / "api").glob("*.html")]
    shown = {str(tag["id"]) for page in pages for tag in page.select("dt[id]")}
    for _, modules in API.values():
        for module, names in modules.items():
            assert {f"{module}.{name.strip()}" for name in names.split(",")} <= shown
    short = {name.rpartition(".")[2] for name in shown}
    for guide in (WATCH_GUIDE, *GUIDES):
        # What is in attach/ cannot be imported, nor shown, without the library that it attaches to.
        for line in re.findall(r"from covlab(?!\.watch\.attach)[\w.]* import ([\w, ]+)", (ROOT / guide).read_text()):
            assert {name.strip() for name in line.split(",")} <= short, guide
    assert short >= set(EXPLORERS)
    for page in pages:  # types are shown, and no condition or address of an object
        assert not re.search(r"Allowed\(|Annotated|<factory>| at 0x", page.text)


def test_every_toggle_has_a_name_and_every_list_of_terms_begins_with_a_term(site: Path) -> None:
    for path in (site / "index.html", site / "api/training.html", site / "watch/W01.html"):
        page = BeautifulSoup(path.read_text(), "html.parser")
        assert all(each.text.strip() or each.get("aria-label") for each in page("summary")), path
        assert page("dl") == page.select("dl:has(> dt:first-child)"), path


def test_the_first_page_shows_the_log_the_loop_and_a_picture_and_names_no_culprit(site: Path) -> None:
    [index] = BeautifulSoup((site / "index.html").read_text(), "html.parser")("article")
    assert "train 0.000000   val 1.921642" in index.text and "Which line is guilty?" in index.text
    assert index.find("img", alt=True) and "make lab" in index.text
    assert "lam_cov" not in index.text and "line A" not in index.text


def test_no_page_speaks_of_a_prediction_that_nobody_could_make(root: Path, site: Path) -> None:
    for path in (root / "build/course/index.html", *site.glob("0*.html")):
        assert not re.search(r"have not predicted|made no prediction|Choose one before", path.read_text()), path


def test_cited_issues_are_links_on_the_site_in_the_report_and_in_the_notebooks(root: Path, site: Path) -> None:
    address = "https://github.com/pytorch/pytorch/issues/16560"
    for path in (root / "build/course/index.html", site / "02_next.html"):
        links = [
            link["href"] for link in BeautifulSoup(path.read_text(), "html.parser")("a") if "github" in link["href"]
        ]
        assert links == [address]
    for edition in (read_lessons(root, ("02",))[0].student, read_lessons(root, ("02",))[0].instructor):
        assert sum(cell.source.count(address) for cell in edition.cells) == 1


ISSUE = "[a-b/c.d#12](https://github.com/a-b/c.d/issues/12)"


@pytest.mark.parametrize(
    "markdown, linked",
    [
        ("see a-b/c.d#12.", f"see {ISSUE}."),
        ("(a-b/c.d#12, a-b/c.d#12)", f"({ISSUE}, {ISSUE})"),
        ("**a-b/c.d#12**: $x$ a-b/c.d#12", f"**{ISSUE}**: $x$ {ISSUE}"),
        ("| a-b/c.d#12 |", f"| {ISSUE} |"),
        ("“a-b/c.d#12”", f"“{ISSUE}”"),
        *[
            (text, text)
            for text in (
                "`a-b/c.d#12` and ``a `b` c/d#1``",
                "```\na-b/c.d#12\n```",
                "[a-b/c.d#12](https://x.org)",
                "https://github.com/a/b#12 and x.org/a/b#12",
                '<a href="a/b#12">x</a>',
                "and/or #12; 3/4; a/b#c; #12",
            )
        ],
    ],
)
def test_only_what_is_cited_in_prose_becomes_a_link_and_once(markdown: str, linked: str) -> None:
    assert with_links(markdown) == linked
    assert with_links(linked) == linked


@pytest.mark.parametrize(
    "cells, rule",
    [
        (["1", "2.5", "−3 %", "12×", "1e-5", "0.5 to 0.7", "**4**", '<span data-claim="0.a">5</span>&nbsp;%'], "---:"),
        (["1", "none"], "---"),
        (["1 and 2"], "---"),
        (["", "1"], "---"),
        (["`a` | b".replace(" | ", " ")], "---"),
    ],
)
def test_columns_of_numbers_are_aligned_to_the_right(cells: list[str], rule: str) -> None:
    table = ["| name | n |", "|---|---|", *(f"| a\\|b | {cell} |" for cell in cells)]
    wanted = [table[0], f"|---|{rule}|", *table[2:]]
    for around in ("", "text\n\n"):
        assert with_aligned_numbers(around + "\n".join(table) + "\n\n1 | 2") == around + "\n".join(wanted) + "\n\n1 | 2"
    kept = "\n".join(["| n |", "|:---|", "| 1 |"])
    assert with_aligned_numbers(kept) == kept


def test_the_handout_is_the_site(root: Path, site: Path) -> None:
    with zipfile.ZipFile(root / "build/covlab-handout.zip") as archive:
        packed = {name for name in archive.namelist() if not name.endswith("/")}
    assert packed == {path.relative_to(site.parent).as_posix() for path in site.rglob("*") if path.is_file()}


def test_a_lesson_that_changed_since_it_ran_gets_no_site(root: Path, tmp_path: Path) -> None:
    (tmp_path / "build").symlink_to(root / "build")
    write_lesson(tmp_path, "01_first", PROSE)
    with pytest.raises(WebsiteError, match="01_first; run `make course`"):
        build_website(tmp_path, read_lessons(tmp_path))


DATA = "data:image/png;base64,AA=="


@pytest.mark.parametrize(
    "html, complaint",
    [
        ('<a href="b.html">', "broken link b.html"),
        ('<a href="#there">', "no such anchor"),
        ('<a href="a.html#there">', "no such anchor"),
        (f'<img src="{DATA}">', "without alternative text"),
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


# Each is a way in which browsers fetch something from elsewhere, or run what no theme brought.
ATTACKS = [
    "<script src=https://x.org/x.js></script>",
    "<script src=//x.org/x.js></script>",
    "<script src='\\\\x.org/x.js'></script>",
    "<script src='data:text/javascript,alert(1)'></script>",
    "<script src='a.js'></script>",
    "<script>fetch('https://x.org')</script>",
    "<script>new WebSocket('wss://x.org')</script>",
    "<script>new XMLHttpRequest().open('GET', '/')</script>",
    "<script type=module>import 'https://x.org/x.js'</script>",
    "<script>window['fe' + 'tch']('//x' + '.org')</script>",
    "<script type=importmap>{}</script>",
    "<SCRIPT>1</SCRIPT>",
    "<svg><script>alert(1)</script></svg>",
    "<svg><script href='https://x.org/x.js'/></svg>",
    "<svg><use href='https://x.org/x.svg#a'/></svg>",
    "<svg><use xlink:href='data:image/svg+xml,x#a'/></svg>",
    "<svg><image href='https://x.org/x.png'/></svg>",
    "<svg><feImage xlink:href='//x.org/x.png'/></svg>",
    "<svg><rect fill='url(https://x.org/x.svg#a)'/></svg>",
    "<svg><a><animate attributeName=href values='javascript:alert(1)'/></a></svg>",
    "<svg><foreignObject><img alt=x src=x onerror=alert(1)></foreignObject></svg>",
    "<svg/onload=alert(1)>",
    "<img alt=x src=https://x.org/x.png>",
    "<img alt=x src=HTTPS:x.org>",
    "<img alt=x src='h&#116;tps://x.org/x.png'>",
    "<img alt=x src=' \n//x.org/x.png'>",
    "<img alt=x srcset='data:image/png;base64,AA== 1x, https://x.org/x.png 2x'>",
    "<img alt=x src='data:image/png;base64,AA==' onerror=alert(1)>",
    "<img alt=x src='data:text/html,x'>",
    "<!--><img alt=x src=https://x.org/x.png>-->",
    "<noscript><img alt=x src=https://x.org/x.png></noscript>",
    "<picture><source srcset=https://x.org/x.png></picture>",
    "<video src=https://x.org/x.mp4></video>",
    "<video poster=https://x.org/x.png></video>",
    "<audio><source src=//x.org/x.mp3></audio>",
    "<video><track src=https://x.org/x.vtt></video>",
    "<input type=image src=https://x.org/x.png>",
    "<body background=https://x.org/x.png>",
    "<table background=//x.org/x.png></table>",
    "<iframe src=https://x.org></iframe>",
    "<iframe srcdoc='<script>alert(1)</script>'></iframe>",
    "<object data=https://x.org/x.swf></object>",
    "<embed src=https://x.org/x.swf>",
    "<base href=https://x.org/>",
    "<link rel=stylesheet href=https://x.org/x.css>",
    "<link rel=preload imagesrcset='https://x.org/x.png 1x'>",
    "<link rel=stylesheet href='data:text/css,@import url(//x.org)'>",
    "<meta http-equiv=refresh content='0;url=https://x.org'>",
    "<meta http-equiv=' Refresh ' content='0'>",
    "<style>@import 'https://x.org/x.css';</style>",
    "<style>@\\69mport url(//x.org/x.css);</style>",
    "<style>p { background: u\\72l('https://x.org/x.png') }</style>",
    "<style>@font-face { src: url(//x.org/x.woff) }</style>",
    "<style>@media print { p { background: image-set('https://x.org/x.png' 1x) } }</style>",
    "<p style='background: url(https://x.org/x.png)'>",
    "<p style='background: URL( //x.org/x.png )'>",
    "<p style='background:/**/url(h\\ttps://x.org/x.png)'>",
    "<p style='background: url(&#104;ttps://x.org/x.png)'>",
    "<p onmouseover=alert(1)>",
    "<p ONCLICK='alert(1)'>",
    "<a href='javascript:alert(1)'>",
    "<a href=' java\nscript:alert(1)'>",
    "<a href='java&Tab;script&colon;alert(1)'>",
    "<a href='data:text/html,<script>alert(1)</script>'>",
    "<a href='vbscript:x'>",
    "<a href='https://x.org' ping='https://y.org'>",
    "<form action='https://x.org'><button formaction='javascript:alert(1)'>",
    "<math><a xlink:href='javascript:alert(1)'>x</a></math>",
]


@pytest.mark.parametrize("html", ATTACKS)
def test_neither_site_nor_report_fetches_or_runs_anything(html: str) -> None:
    assert page_dangers(html)
    assert page_dangers(harmless(html)) == []


@pytest.mark.parametrize(
    "html",
    [
        f"<img alt='a line' src='{DATA}' style='max-width: 100%'>",
        f"<p style='color: #123; background: url({DATA})'>",
        "<style>p { margin: 0 } @media print { p { color: red } }</style>",
        "<a href='https://x.org/a?b=c#d'>a</a><a href='mailto:a@x.org'>b</a><a href='#c'>c</a>",
        "<svg viewBox='0 0 1 1'><title>a line</title><path fill='url(#shade)' d='M0 0L1 1'/><use href='#p'/></svg>",
        "<math><mfrac><mi>a</mi><mi>b</mi></mfrac></math><table><tr><td style='text-align: left'>1</td></tr></table>",
        "<p>url(https://x.org) <code>&lt;script src=https://x.org&gt;</code> onclick=x</p>",
        "<script type='application/json'>{}</script><form action='search.html'></form>",
    ],
)
def test_what_is_harmless_is_no_danger(html: str) -> None:
    assert page_dangers(html) == []


@pytest.mark.parametrize(
    "html",
    [
        f'<img alt="a line" src="{DATA}" style="max-width: 100%;">',
        '<a href="https://x.org/a?b=c#d">a</a><a href="05_next.ipynb">b</a>',
        '<div style="border-left: 4px solid #009E73; padding: .2em .9em;"><b>✓ solved</b></div>',
        '<math display="block"><mover accent="true"><mi>R</mi><mo stretchy="false">^</mo></mover></math>',
        '<svg viewBox="0 0 1 1" role="img" aria-label="a line"><path d="M0 0L1 1" stroke="red"></path></svg>',
        '<progress max="9" value="9" aria-label="windows trained"></progress> 9/9 windows',
        '<table><caption>NMSE</caption><tbody><tr><td style="text-align: right;">1</td></tr></tbody></table>',
    ],
)
def test_tables_formulas_and_pictures_stay_as_they_are(html: str) -> None:
    assert harmless(html) == html
