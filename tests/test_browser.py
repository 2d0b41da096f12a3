"""JupyterLab as `make lab` opens it, used in a real browser by keyboard, as a student would."""

import re
import time
from collections.abc import Iterator
from pathlib import Path

import psutil
import pytest
from jupyter_client import BlockingKernelClient

playwright = pytest.importorskip("playwright.sync_api")

from browser import (  # noqa: E402
    ROOT,
    Role,
    Server,
    chromium,
    evidence,
    nameless,
    quiet,
    run_all,
    tab_to,
    value_of,
    violations,
    write_notebook,
)
from playwright.sync_api import BrowserContext, Page  # noqa: E402

from covlab.widgets.dashboard import seed_of  # noqa: E402

# explorer -> keyboard moves: (role, name of the control, keys, {control: value} in the kernel afterwards)
MOVES: dict[str, list[tuple[Role, str, list[str], dict[str, object]]]] = {
    "NMSEExplorer": [
        ("spinbutton", "scale s", ["Control+a", "7", "Tab"], {"scale": 7.0}),
        ("slider", "angle α from R, degrees, slider", ["ArrowRight"], {"angle": 35.0}),
    ],
    "LossWeightsExplorer": [
        ("spinbutton", "lam_ortho (0: off)", ["Control+a", "1", "Tab"], {"lam_ortho": 1.0}),
        ("slider", "lam_cov (0: off), slider", ["Home"], {"lam_cov": 0.0}),
    ],
    "LossScaleExplorer": [
        ("slider", "loss scale at the start, log₂, slider", ["ArrowLeft"], {"scale": 15.0}),
        ("radio", "trained for 60 windows", ["Space"], {"network": "trained for 60 windows"}),
    ],
    "ScalingBugExplorer": [
        ("radio", "off", ["Space"], {"bug": "off"}),
        ("slider", "clip the gradient at (0: never), slider", ["ArrowRight"], {"clip": 2.0}),
    ],
    "FaultMuseumExplorer": [("combobox", "fault", ["ArrowDown"], {"fault": "short_window_by_full_count"})],
    "SceneExplorer": [
        ("spinbutton", "azimuth φ, degrees", ["Control+a", "-7", "Tab"], {"azimuth": -7.0}),
        ("slider", "range r, meters, slider", ["ArrowRight"], {"range": 1.0}),
    ],
}
ANOTHER_PICTURE = (
    "([number, before]) => document.querySelectorAll('.covlab-explorer')[number].querySelector('img').src !== before"
)
# What is wrong with the texts of an explorer: letters too small, cut off, outside, or on each other.
TEXT_FAULTS = """explorer => {
    const faults = [], boxes = [], style = getComputedStyle, edge = explorer.getBoundingClientRect().right;
    const texts = document.createTreeWalker(explorer, NodeFilter.SHOW_TEXT);
    while (texts.nextNode()) {
        const text = texts.currentNode, owner = text.parentElement, said = text.textContent.trim();
        if (!said || owner.closest("option, style") || !owner.checkVisibility({visibilityProperty: true})) continue;
        if (parseFloat(style(owner).fontSize) < 11) faults.push("small: " + said);
        const range = document.createRange();
        range.selectNodeContents(text);
        for (const box of range.getClientRects()) {
            if (box.right > edge + 1) faults.push("outside: " + said);
            for (const other of boxes)
                if (Math.min(box.right, other.box.right) - Math.max(box.left, other.box.left) > 1 &&
                    Math.min(box.bottom, other.box.bottom) - Math.max(box.top, other.box.top) > 3)
                    faults.push("overlap: " + other.said + " | " + said);
            boxes.push({box, said});
        }
    }
    for (const each of explorer.querySelectorAll("*"))
        if (each.clientWidth && each.scrollWidth > each.clientWidth + 1 && style(each).overflowX !== "visible")
            faults.push(`cut off: ${each.className} ${each.textContent.trim().slice(0, 40)}`);
    return faults;
}"""
CONTROLS = "[...explorer.querySelectorAll('input, select, button, .noUi-handle')]"
CONTROLS_IN_USE = f"""explorer => {CONTROLS}.map((each, number) =>
    each.closest('[disabled]') ? -1 : number
).filter(number => number >= 0)"""
FOCUSED = f"""explorer => {{
    const focused = document.activeElement, box = focused.getBoundingClientRect();
    const seen = box.top >= 0 && box.bottom <= innerHeight && box.left >= 0 && box.right <= innerWidth;
    return seen || !explorer.contains(focused) ? {CONTROLS}.indexOf(focused) : -2;
}}"""
# What the dashboard has outside the window, or what scrolls.
OUTSIDE = """[...document.querySelectorAll("html, .covlab-dashboard *")].filter(each => {
    const box = each.getBoundingClientRect();
    return box.width && box.height && (box.left < -1 || box.top < -1 || box.right > innerWidth + 1 ||
        box.bottom > innerHeight + 1);
}).map(each => each.outerHTML.slice(0, 120))"""
WRONG, STDERR = (
    "[data-covlab-error], [data-mime-type='application/vnd.jupyter.error']",
    "[data-mime-type='application/vnd.jupyter.stderr']",
)
SECOND_DAY = [f"from covlab.widgets import {name}\n{name}().show()" for name in ("NMSEExplorer", "FaultMuseumExplorer")]
LESSONS = sorted((ROOT / "notebooks").glob("*.ipynb"))


@pytest.fixture(scope="module")
def browser() -> Iterator[BrowserContext]:
    with playwright.sync_playwright() as started:
        # Chromium's sandbox refuses root, which is what CI often is.
        context = started.chromium.launch(executable_path=chromium(), args=["--no-sandbox"]).new_context(
            viewport={"width": 1400, "height": 1100}
        )
        context.set_default_timeout(60_000)
        yield context


@pytest.fixture(scope="module")
def lab(tmp_path_factory: pytest.TempPathFactory, browser: BrowserContext) -> Iterator[Server]:
    folder = tmp_path_factory.mktemp("lab")
    cells = [f"from covlab.widgets import {name}\n{name}_ = {name}()\n{name}_.show()" for name in MOVES]
    write_notebook(folder / "notebooks" / "explorers.ipynb", *cells)
    write_notebook(folder / "notebooks" / "second_day.ipynb", *SECOND_DAY)
    for lesson in LESSONS:
        (folder / "notebooks" / lesson.name).write_bytes(lesson.read_bytes())
    server = Server(["covlab", "course", "lab", "--no-browser", "--root", str(folder)], folder)
    yield server
    server.stop()


@pytest.fixture(scope="module")
def explorers(lab: Server, browser: BrowserContext) -> Iterator[tuple[Page, BlockingKernelClient]]:
    """Return (page, kernel) of the notebook of all explorers, run from top to bottom."""
    page = browser.new_page()
    with quiet(page), evidence(page, "explorers"):
        page.goto(f"{lab.address}/lab/tree/explorers.ipynb?token={lab.token}&reset")
        run_all(page)
        page.locator(".covlab-explorer img").nth(len(MOVES) - 1).wait_for(timeout=120_000)
        page.get_by_text("Python 3 (ipykernel) | Idle").wait_for()
    kernel = lab.kernel()
    yield page, kernel
    kernel.stop_channels()
    page.close()


@pytest.mark.parametrize("name", MOVES)
def test_explorer_by_keyboard(explorers: tuple[Page, BlockingKernelClient], lab: Server, name: str) -> None:
    page, kernel = explorers
    number = list(MOVES).index(name)
    picture = page.locator(".covlab-explorer").nth(number).locator("img").first
    with quiet(page), evidence(page, name):
        for role, control, keys, expected in MOVES[name]:
            before, words = picture.get_attribute("src"), picture.get_attribute("alt")
            select_cell(page, number)
            tab_to(page, control, role)
            for key in keys:
                (page.keyboard.type if re.fullmatch(r"-?[0-9.]+", key) else page.keyboard.press)(key)
            page.wait_for_function(ANOTHER_PICTURE, arg=[number, before])
            for _ in range(50):
                state = value_of(kernel, f"{name}_.state")
                if {key: state[key] for key in expected} == expected:
                    break
                page.wait_for_timeout(100)
            assert {key: state[key] for key in expected} == expected
            assert picture.get_attribute("alt") != words
        assert nameless(page, ".covlab-explorer", number) == []
        assert page.locator(f"{WRONG}, {STDERR}").count() == 0
        assert not [line for line in lab.log if "Traceback" in line]


def test_weights_are_trained_in_the_background_while_the_controls_stay_alive(
    explorers: tuple[Page, BlockingKernelClient],
) -> None:
    """With lam_cov at zero the guard objects; with its weight back, a run can be stopped halfway."""
    page, kernel = explorers
    explorer = page.locator(".covlab-explorer").filter(has=page.get_by_text("The weights of the loss"))
    with quiet(page), evidence(page, "training"):
        page.evaluate("document.activeElement.blur()")
        kernel.execute("LossWeightsExplorer_.state = {'lam_cov': 0.0}")
        explorer.get_by_text("lam_cov must be above 0").wait_for()
        kernel.execute("LossWeightsExplorer_.state = {'lam_cov': 1.0}; LossWeightsExplorer_.windows.value = 400")
        explorer.get_by_text("lam_cov must be above 0").wait_for(state="detached")
        explorer.get_by_role("button", name="Train").click()
        explorer.get_by_role("progressbar", name="training").wait_for()
        explorer.get_by_role("spinbutton", name="lam_gap (0: off)", exact=True).fill("0.5")
        page.keyboard.press("Tab")
        for _ in range(100):
            if value_of(kernel, "LossWeightsExplorer_.state['lam_gap'], LossWeightsExplorer_.background.running") == (
                0.5,
                True,
            ):
                break
            page.wait_for_timeout(100)
        else:
            pytest.fail("the control did not answer while training went on")
        explorer.get_by_role("button", name="Stop").click()
        explorer.get_by_text("training: stopped").wait_for()
        assert 0 < value_of(kernel, "LossWeightsExplorer_.runs[-1][1].window") < 400
        assert "Held-out NMSE" in (explorer.locator("img").last.get_attribute("alt") or "")


@pytest.mark.slow
@pytest.mark.parametrize("theme", ["JupyterLab Light", "JupyterLab Dark"])
@pytest.mark.parametrize("zoom", [1.0, 1.5])
def test_explorers_fit_a_small_laptop_and_axe_finds_nothing(
    explorers: tuple[Page, BlockingKernelClient], theme: str, zoom: float
) -> None:
    """At 1366 × 768, controls and picture stand side by side within one screen; at 150 %, below each other."""
    page, _ = explorers
    before = page.viewport_size
    with evidence(page, f"small-laptop-{theme[-5:].strip()}-{zoom:g}"):
        for entry in ("Settings", "Theme", theme):
            page.locator(".lm-MenuBar-itemLabel, .lm-Menu-itemLabel").get_by_text(entry, exact=True).click()
        # The body has no height, so it is never visible.
        page.locator(f"body[data-jp-theme-name='{theme}']").wait_for(state="attached")
        page.set_viewport_size({"width": round(1366 / zoom), "height": round(768 / zoom)})  # would close the menu
        for number in range(len(MOVES)):
            explorer = page.locator(".covlab-explorer").nth(number)
            explorer.evaluate("element => element.scrollIntoView()")
            whole, picture = explorer.bounding_box(), explorer.locator("img").first.bounding_box()
            assert whole and picture and picture["width"] <= whole["width"]
            assert explorer.evaluate(TEXT_FAULTS) == []
            for slider in explorer.locator(".noUi-target").all():
                box = slider.bounding_box()
                assert box and box["width"] >= 250
                beside = box["x"] + box["width"] <= picture["x"] and box["y"] < picture["y"] + picture["height"]
                below = box["y"] + box["height"] <= picture["y"]
                assert beside if zoom == 1 else below
            if zoom == 1:
                curve = explorer.locator("img").nth(1)  # of a training, if there was one
                bottom = box["y"] if curve.count() and (box := curve.bounding_box()) else whole["y"] + whole["height"]
                assert bottom - whole["y"] <= 650  # what JupyterLab leaves of 768
        assert violations(page, ".covlab-explorer") == []
    assert before is not None
    page.set_viewport_size(before)


@pytest.mark.slow
def test_every_control_is_reached_by_tab_and_seen_at_150_percent(
    explorers: tuple[Page, BlockingKernelClient],
) -> None:
    page, _ = explorers
    before = page.viewport_size
    assert before is not None
    page.set_viewport_size({"width": round(1366 / 1.5), "height": round(768 / 1.5)})
    with evidence(page, "by-tab"):
        for number in range(len(MOVES)):
            explorer = page.locator(".covlab-explorer").nth(number)
            select_cell(page, number)
            reached = set()
            for _ in range(60):
                page.keyboard.press("Tab")
                at = explorer.evaluate(FOCUSED)
                if at >= 0:
                    reached.add(at)
                elif reached:
                    break
            assert reached == set(explorer.evaluate(CONTROLS_IN_USE))
    page.set_viewport_size(before)


def second_day(page: Page, address: str, token: str, folder: Path) -> None:
    """Run a notebook of explorers, save it, end its kernel, and open it again."""
    page.goto(f"{address}?token={token}&reset")
    run_all(page)
    page.locator(".covlab-explorer img").nth(1).wait_for(timeout=120_000)
    assert [still.is_visible() for still in page.locator(".covlab-still").all()] == [False, False]
    page.keyboard.press("Control+s")
    for _ in range(100):
        if "covlab-still" in folder.read_text():
            break
        page.wait_for_timeout(100)
    server = address.split("/lab")[0].split("/notebooks")[0]
    for session in page.request.get(f"{server}/api/sessions?token={token}").json():
        if session["path"] == folder.name:
            page.request.delete(f"{server}/api/sessions/{session['id']}?token={token}")
    page.goto(f"{address}?token={token}&reset")
    page.locator(".covlab-still").nth(1).wait_for()
    page.wait_for_timeout(4000)  # JupyterLab looks for the widget for two seconds
    assert [still.is_visible() for still in page.locator(".covlab-still").all()] == [True, True]
    assert not any(error.is_visible() for error in page.get_by_text("Error displaying widget").all())
    for still in page.locator(".covlab-still").all():
        assert still.get_by_text("Run this cell to use it.").is_visible()
        assert len(still.locator("img").get_attribute("alt") or "") > 80


@pytest.mark.slow
def test_a_notebook_that_is_opened_again_shows_stills_and_no_error(lab: Server, browser: BrowserContext) -> None:
    page = browser.new_page()
    with evidence(page, "second-day"):
        second_day(
            page, f"{lab.address}/lab/tree/second_day.ipynb", lab.token, lab.runtime.parent / "work/second_day.ipynb"
        )
    page.close()


@pytest.mark.slow
def test_explorers_work_in_notebook_7_as_in_lab(tmp_path: Path, browser: BrowserContext) -> None:
    pytest.importorskip("notebook", minversion="7", reason="Notebook 7 is not installed")
    write_notebook(tmp_path / "second_day.ipynb", *SECOND_DAY)
    server = Server(["notebook", "--no-browser", "--allow-root", f"--ServerApp.root_dir={tmp_path}"], tmp_path)
    try:
        page = browser.new_page()
        with evidence(page, "notebook-7"):
            second_day(
                page, f"{server.address}/notebooks/second_day.ipynb", server.token, tmp_path / "second_day.ipynb"
            )
            run_all(page)
            slider = page.locator(".covlab-explorer").get_by_role("slider", name="scale s, slider")
            picture = page.locator(".covlab-explorer img").first
            before = picture.get_attribute("src")
            slider.press("ArrowRight")
            page.wait_for_function(ANOTHER_PICTURE, arg=[0, before])
            assert violations(page, ".covlab-explorer") == []
        page.close()
    finally:
        server.stop()


def select_cell(page: Page, number: int) -> None:
    """Select a cell by keyboard, wherever the focus is in the notebook."""
    page.locator(".jp-Notebook").focus()
    page.keyboard.press("Escape")
    for _ in range(len(MOVES)):
        page.keyboard.press("ArrowUp")
    for _ in range(number):
        page.keyboard.press("ArrowDown")


@pytest.mark.parametrize(
    "lesson",
    [pytest.param(path.name, marks=() if path.name[:2] == "00" else pytest.mark.slow) for path in LESSONS],
)
def test_lesson_runs_from_top_to_bottom(lab: Server, browser: BrowserContext, lesson: str) -> None:
    """Every cell runs, the page shows no error, and nothing is wider than the page."""
    page = browser.new_page()
    with quiet(page), evidence(page, lesson.removesuffix(".ipynb")):
        page.goto(f"{lab.address}/lab/tree/{lesson}?token={lab.token}&reset")
        run_all(page)
        page.wait_for_function(
            "() => ![...document.querySelectorAll('.jp-InputPrompt')].some(prompt => prompt.textContent === '[*]:')",
            timeout=500_000,
        )
        page.get_by_text("Python 3 (ipykernel) | Idle").wait_for()  # a folded cell has no prompt
        prompts = page.locator(".jp-CodeCell:has(.cm-line:not(:empty)) .jp-InputPrompt").all_text_contents()
        assert prompts and all(re.fullmatch(r"\[\d+\]:", prompt) for prompt in prompts)
        assert page.locator(WRONG).count() == 0
        assert page.locator(STDERR).count() == 0
        assert page.locator(".jp-WindowedPanel-outer").evaluate("element => element.scrollWidth <= element.clientWidth")
        assert not [line for line in lab.log if "Traceback" in line]
    page.close()


@pytest.fixture(scope="module")
def dashboard(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Server]:
    temporary = tmp_path_factory.mktemp("temporary")
    folder = tmp_path_factory.mktemp("dashboard")
    server = Server(["covlab", "demo", "dashboard", "--no-browser"], folder, TMPDIR=str(temporary))
    assert len(list(temporary.glob("covlab-dashboard-*/dashboard.ipynb"))) == 1
    yield server
    server.stop()  # with SIGTERM
    assert list(temporary.glob("covlab-*")) == []


def kernels_of(server: Server) -> list[psutil.Process]:
    """Return the dashboard's kernels: one for each page that is open."""
    return [each for each in psutil.Process(server.process.pid).children(recursive=True) if each.is_running()]


def test_dashboard(dashboard: Server, browser: BrowserContext) -> None:
    page, fetched = browser.new_page(), []
    page.on("request", lambda request: fetched.append(request.url))
    assert "/login" in page.request.get(dashboard.address).url, "the dashboard opens without the token"
    with evidence(page, "dashboard"):
        page.goto(f"{dashboard.address}/?token={dashboard.token}", wait_until="commit")
        picture = page.locator(".covlab-explorer img")
        picture.wait_for(timeout=120_000)
        assert [
            url
            for url in fetched
            if not url.startswith((dashboard.address, dashboard.address.replace("http", "ws"), "data:", "blob:"))
        ] == []
        assert page.locator(".jp-InputArea").count() == 0, "code is shown"
        assert page.get_by_text("training: not started").is_visible(), "the class predicts first"
        page.get_by_role("button", name="Start", exact=True).dblclick()  # the second click must not stop it
        page.get_by_text("training: done").wait_for()
        before, words = picture.get_attribute("src"), picture.get_attribute("alt")
        assert words is not None and "The bug is on" in words
        page.get_by_role("radio", name="sgd").check()
        page.wait_for_function("before => document.querySelector('.covlab-explorer img').src !== before", arg=before)
        page.get_by_text("training: done").wait_for()
        assert "sgd" in (picture.get_attribute("alt") or "")
        assert page.get_by_text("correct: Trainer.weigh").count() == 0
        page.get_by_role("button", name="Reveal the difference").click()
        page.get_by_text("correct: Trainer.weigh").wait_for()
        page.get_by_role("button", name="Hide the difference").wait_for()
        assert nameless(page, ".covlab-explorer") == []
        for scheme in ("light", "dark"):
            page.emulate_media(color_scheme=scheme)
            for size in ((1280, 720), (1024, 768)):
                page.set_viewport_size({"width": size[0], "height": size[1]})
                # The browser arranges the page some time after the window has its new size.
                page.wait_for_function(
                    "width => document.querySelector('.covlab-dashboard').offsetWidth === width", arg=size[0]
                )
                assert page.evaluate(OUTSIDE) == [], (scheme, size)
                assert violations(page) == []
        page.set_viewport_size({"width": 390, "height": 844})
        assert page.evaluate("document.documentElement.scrollWidth <= innerWidth"), "a phone scrolls sideways"
        assert page.locator("[data-covlab-error]").count() == 0 and not [
            line for line in dashboard.log if "Traceback" in line
        ]
    page.close()


@pytest.mark.parametrize(
    "bad", ["abc", "", "-1", "1.5", "1_000", "\u0663", "9223372036854775808", "1&seed=2", "9" * 5000]
)
def test_a_seed_in_the_address_that_is_none_is_refused_in_one_line(bad: str) -> None:
    with pytest.raises(ValueError, match=r"^\?seed in the address must be .*, got .*$") as refused:
        seed_of(f"token=1&seed={bad}", 3)
    assert len(str(refused.value)) < 250
    assert (seed_of("token=1", 3), seed_of("seed=7", 3)) == (3, 7)


@pytest.mark.slow
def test_the_dashboard_shows_the_last_of_many_clicks_in_each_tab_and_after_a_reload(
    dashboard: Server, browser: BrowserContext
) -> None:
    """Twelve clicks, faster than any of them can be trained; another tab moves by itself; a reload starts again."""
    first, second, before = browser.new_page(), browser.new_page(), len(kernels_of(dashboard))
    with evidence(first, "dashboard-clicks"):
        for page in (first, second):
            page.goto(f"{dashboard.address}/?token={dashboard.token}", wait_until="commit")
            page.locator(".covlab-explorer img").wait_for(timeout=120_000)
            page.get_by_role("button", name="Start", exact=True).click()
        for number in range(12):
            first.get_by_role("radio", name=("sgd", "off", "adamw", "on")[number % 4], exact=True).check()
        second.get_by_role("radio", name="off", exact=True).check()
        expected = {first: ("The bug is on", "adamw"), second: ("The bug is off", "adamw")}
        for page, words in expected.items():
            page.get_by_text("training: done").wait_for()
            for each in words:
                page.locator(f".covlab-explorer img[alt*='{each}']").wait_for()
            assert page.locator("[data-covlab-error]").count() == 0
        first.reload(wait_until="commit")
        picture = first.locator(".covlab-explorer img[alt*='The bug is on, adamw']")
        picture.wait_for(timeout=120_000)
        first.get_by_text("training: not started").wait_for()
        first.get_by_role("radio", name="sgd", exact=True).check()
        first.locator(".covlab-explorer img[alt*='The bug is on, sgd']").wait_for()
        assert not [line for line in dashboard.log if "Traceback" in line]
    for page in (first, second):
        page.goto("about:blank")  # Playwright's `close` does not tell the page that it is left
        page.close()
    for _ in range(600):
        if len(kernels_of(dashboard)) <= before:
            break
        time.sleep(0.1)
    assert len(kernels_of(dashboard)) <= before, "a page that was left leaves its kernel behind"
