"""A prediction as a student makes it: in JupyterLab, by keyboard alone, and remembered in work/."""

import json
from pathlib import Path

import pytest

playwright = pytest.importorskip("playwright.sync_api")

from browser import Server, chromium, evidence, nameless, quiet, run_all, write_notebook  # noqa: E402


@pytest.mark.slow
def test_a_prediction_is_made_by_keyboard_and_remembered(tmp_path: Path) -> None:
    (tmp_path / "lessons").mkdir()  # what makes it a clone
    write_notebook(
        tmp_path / "notebooks" / "predict.ipynb",
        'from covlab.course import predict\npredict("99.toy", "The loss is …", ["too small", "right", "too large"])',
    )
    server = Server(["covlab", "course", "lab", "--no-browser", "--root", str(tmp_path)], tmp_path)
    try:
        with playwright.sync_playwright() as started:
            browser = started.chromium.launch(executable_path=chromium(), args=["--no-sandbox"])
            page = browser.new_page(viewport={"width": 1000, "height": 800})
            with quiet(page), evidence(page, "predict"):
                page.goto(f"{server.address}/lab/tree/predict.ipynb?token={server.token}&reset")
                run_all(page)
                page.get_by_role("radio").nth(2).wait_for(timeout=120_000)
                assert page.locator("input[type=radio]:checked").count() == 0  # nothing is chosen beforehand
                assert page.get_by_text("Choose one before you continue.").count() == 1
                assert nameless(page, ".covlab-predict") == []
                page.locator(".jp-Notebook").focus()
                for _ in range(40):
                    page.keyboard.press("Tab")
                    if page.evaluate("document.activeElement.type === 'radio'"):
                        break
                page.keyboard.press("Space")
                page.get_by_text("Noted:").wait_for()
                page.keyboard.press("Tab")  # ipywidgets' radio buttons are a stop each
                page.keyboard.press("Space")
                page.get_by_text("Noted: right.").wait_for()
            kept = json.loads((tmp_path / "work" / ".progress.json").read_text())
            assert kept["predictions"] == {"99.toy": "right"}
    finally:
        server.stop()
