"""As a student would: JupyterLab as `make lab` opens it, in a real browser, by keyboard."""

import re

import pytest

playwright = pytest.importorskip("playwright.sync_api")

from browser import ROOT, Server, chromium, evidence, nameless, quiet, run_all, tab_to, value_of, write_notebook  # noqa: E402

# explorer -> keyboard moves: (role, name of the control, keys, {control: value} in the kernel afterwards)
MOVES = {
    "NMSEExplorer": [
        ("spinbutton", "scale s", ["Control+a", "7", "Tab"], {"scale": 7.0}),
        ("slider", "angle α from R, degrees, slider", ["ArrowRight"], {"angle": 35.0}),
    ],
    "LossWeightsExplorer": [
        ("spinbutton", "lam_ortho", ["Control+a", "1", "Tab"], {"lam_ortho": 1.0}),
        ("slider", "lam_aux, slider", ["ArrowRight", "ArrowRight"], {"lam_aux": 2e-4}),
    ],
}
ANOTHER_PICTURE = "([number, before]) => document.querySelectorAll('.covlab-explorer')[number].querySelector('img').src !== before"
LESSONS = sorted((ROOT / "notebooks").glob("*.ipynb"))


@pytest.fixture(scope="module")
def browser():
    with playwright.sync_playwright() as started:
        # Chromium's sandbox refuses root, which is what CI often is.
        yield started.chromium.launch(executable_path=chromium(), args=["--no-sandbox"])


@pytest.fixture(scope="module")
def lab(tmp_path_factory, browser):
    folder = tmp_path_factory.mktemp("lab")
    cells = [f"from covlab.widgets import {name}\n{name}_ = {name}()\n{name}_.show()" for name in MOVES]
    write_notebook(folder / "notebooks" / "explorers.ipynb", *cells)
    for lesson in LESSONS:
        (folder / "notebooks" / lesson.name).write_bytes(lesson.read_bytes())
    server = Server(["covlab", "course", "lab", "--no-browser", "--root", str(folder)], folder)
    yield server
    server.stop()


@pytest.fixture(scope="module")
def explorers(lab, browser):
    """(page, kernel) of the notebook of all explorers, run from top to bottom."""
    page = browser.new_page(viewport={"width": 1300, "height": 1100})
    with quiet(page), evidence(page, "explorers"):
        page.goto(f"{lab.address}/lab/tree/explorers.ipynb?token={lab.token}&reset")
        run_all(page)
        page.locator(".covlab-explorer img").nth(len(MOVES) - 1).wait_for(timeout=120_000)
        page.get_by_text("Python 3 (ipykernel) | Idle").wait_for(timeout=60_000)
    kernel = lab.kernel()
    yield page, kernel
    kernel.stop_channels()
    page.close()


@pytest.mark.parametrize("name", MOVES)
def test_explorer_by_keyboard(explorers, lab, name):
    page, kernel = explorers
    number = list(MOVES).index(name)
    picture = page.locator(".covlab-explorer").nth(number).locator("img").first
    with quiet(page), evidence(page, name):
        for role, control, keys, expected in MOVES[name]:
            before, words = picture.get_attribute("src"), picture.get_attribute("alt")
            select_cell(page, number)
            tab_to(page, control, role)
            for key in keys:
                page.keyboard.press(key)
            page.wait_for_function(ANOTHER_PICTURE, arg=[number, before], timeout=20_000)
            for _ in range(50):
                state = value_of(kernel, f"{name}_.state")
                if {key: state[key] for key in expected} == expected:
                    break
                page.wait_for_timeout(100)
            assert {key: state[key] for key in expected} == expected
            assert picture.get_attribute("alt") != words
        assert nameless(page, ".covlab-explorer", number) == []
        assert page.locator("[data-covlab-error], [data-mime-type='application/vnd.jupyter.stderr'], [data-mime-type='application/vnd.jupyter.error']").count() == 0
        assert not [line for line in lab.log if "Traceback" in line]


def select_cell(page, number: int) -> None:
    """Make a cell the active one, by keyboard, from wherever the focus is in the notebook."""
    page.locator(".jp-Notebook").focus()
    page.keyboard.press("Escape")
    for _ in range(len(MOVES)):
        page.keyboard.press("ArrowUp")
    for _ in range(number):
        page.keyboard.press("ArrowDown")


@pytest.mark.slow
@pytest.mark.parametrize("lesson", [path.name for path in LESSONS if path.name[:2] in ("00", "03", "06")])
def test_lesson_runs_from_top_to_bottom(lab, browser, lesson):
    page = browser.new_page(viewport={"width": 1300, "height": 1100})
    with quiet(page), evidence(page, lesson.removesuffix(".ipynb")):
        page.goto(f"{lab.address}/lab/tree/{lesson}?token={lab.token}&reset")
        run_all(page)
        page.wait_for_timeout(2000)
        page.get_by_text("Python 3 (ipykernel) | Idle").wait_for(timeout=400_000)
        prompts = page.locator(".jp-CodeCell:has(.cm-line:not(:empty)) .jp-InputPrompt").all_text_contents()
        assert prompts and all(re.fullmatch(r"\[\d+\]:", prompt) for prompt in prompts)
        assert page.locator("[data-covlab-error], [data-mime-type='application/vnd.jupyter.error']").count() == 0
    page.close()
