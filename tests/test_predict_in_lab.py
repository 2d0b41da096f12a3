"""A prediction as a student makes it: in JupyterLab, by keyboard alone, and remembered in work/."""

import json
from pathlib import Path

import pytest

playwright = pytest.importorskip("playwright.sync_api")

from browser import Server, chromium, evidence, nameless, quiet, run_all, write_notebook  # noqa: E402

ASK = """from covlab.course import outcome, predict
predict("99.toy", "The loss is …", ["too small", "right", "too large"])"""
SHOW = 'outcome("99.toy", "too large", because="The division is missing.")'


@pytest.mark.slow
def test_a_prediction_is_made_by_keyboard_kept_and_still_shown_on_the_second_day(tmp_path: Path) -> None:
    (tmp_path / "lessons").mkdir()  # what makes it a clone
    write_notebook(tmp_path / "notebooks" / "predict.ipynb", ASK, SHOW)
    server = Server(["covlab", "course", "lab", "--no-browser", "--root", str(tmp_path)], tmp_path)
    address = f"{server.address}/lab/tree/predict.ipynb?token={server.token}&reset"
    try:
        with playwright.sync_playwright() as started:
            browser = started.chromium.launch(executable_path=chromium(), args=["--no-sandbox"])
            page = browser.new_page(viewport={"width": 1000, "height": 800})
            with quiet(page), evidence(page, "predict"):
                page.goto(address)
                run_all(page)
                page.get_by_role("radio").nth(2).wait_for(timeout=120_000)
                assert page.locator("input[type=radio]:checked").count() == 0  # nothing is chosen beforehand
                assert page.get_by_text("Choose one before you continue.").count() == 1
                page.get_by_text("Answer the question above first").wait_for()
                assert page.locator(".jp-OutputArea").get_by_text("The division is missing.").count() == 0
                assert nameless(page, ".covlab-predict") == []
                page.locator(".jp-Notebook").focus()
                for _ in range(40):
                    page.keyboard.press("Tab")
                    if page.evaluate("document.activeElement.type === 'radio'"):
                        break
                page.keyboard.press("Space")
                page.get_by_text("You predict:").wait_for()
                page.keyboard.press("Tab")  # ipywidgets' radio buttons are a stop each
                page.keyboard.press("Space")
                page.get_by_text("You predict: right.").wait_for()
                run_all(page)
                page.get_by_text("You predicted: right. It came out differently: too large.").wait_for(timeout=60_000)
                assert page.locator("input[type=radio]:checked:disabled").count() == 1
                page.keyboard.press("Control+s")
                page.wait_for_function("!document.querySelector('.jp-mod-dirty')")
            kept = json.loads((tmp_path / "work" / ".progress.json").read_text())
            assert kept["predictions"]["99.toy"]["choice"] == "right" and kept["predictions"]["99.toy"]["outcome_shown"]

            # The second day: another kernel, another browser.
            sessions = f"{server.address}/api/sessions"
            for session in page.request.get(f"{sessions}?token={server.token}").json():
                page.request.delete(f"{sessions}/{session['id']}?token={server.token}")
            page.close()
            page = browser.new_page(viewport={"width": 1000, "height": 800})
            with evidence(page, "predict_again"):
                page.goto(address)
                page.get_by_text("Python 3 (ipykernel) | Idle").wait_for(timeout=120_000)
                page.locator(".covlab-still").get_by_text("too small").wait_for()
                assert page.locator(".covlab-still").get_by_text("Run this cell to answer").is_visible()
                assert page.get_by_text("You predicted: right.").is_visible()
                assert not page.get_by_text("Error displaying widget").is_visible()
    finally:
        server.stop()
