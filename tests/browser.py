"""A real JupyterLab in a real browser, for tests: starting both, reading a kernel's state, keeping evidence of a
failure.
"""

import os
import re
import shutil
import subprocess
import sys
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any, Literal

import nbformat
import pytest
from jupyter_client import BlockingKernelClient
from playwright.sync_api import ConsoleMessage, Error, Page, TimeoutError

ROOT = Path(__file__).parents[1]
EVIDENCE = ROOT / "build" / "browser"
NAMES = ("chromium", "chromium-browser", "google-chrome", "google-chrome-stable")
CONTROLS = {
    "slider",
    "spinbutton",
    "combobox",
    "radio",
    "radiogroup",
    "checkbox",
    "button",
    "progressbar",
    "textbox",
    "image",
}
"""Roles that nobody can use without a name."""
WCAG = ["wcag2a", "wcag2aa", "wcag21a", "wcag21aa", "wcag22aa"]
"""What axe-core looks for: the guidelines' levels A and AA."""
CELLS_BEGIN = """() => {
    window.cellBegan = false;
    new MutationObserver((_, observer) => {
        if (![...document.querySelectorAll('.jp-InputPrompt')].some(each => each.textContent === '[*]:')) return;
        window.cellBegan = true;
        observer.disconnect();
    }).observe(document.querySelector('.jp-Notebook'), {subtree: true, childList: true, characterData: true});
}"""
"""Notes when the first cell begins, however short it runs."""
Role = Literal["slider", "spinbutton", "combobox", "radio"]
"""Of the controls that a test moves."""


def chromium() -> str:
    """Where the browser is. Without one the test is skipped; it fails where COVLAB_CHROMIUM promises one."""
    promised = os.environ.get("COVLAB_CHROMIUM")
    if promised is not None:
        return shutil.which(promised) or pytest.fail(f"COVLAB_CHROMIUM is {promised!r}, which is no program")
    found = next(filter(None, map(shutil.which, NAMES)), None)
    if not found:
        pytest.skip("no Chromium here (apt-get install chromium), or name one in COVLAB_CHROMIUM")
    return found


class Server:
    """A process that prints the address of what it serves.

    Attributes:
        address, token: of the server.
        log: all it said on stderr.
    """

    def __init__(self, command: list[str], folder: Path, **variables: str) -> None:
        private = {f"JUPYTER_{kind.upper()}_DIR": str(folder / kind) for kind in ("config", "data", "runtime")}
        path = os.pathsep.join(filter(None, [str(ROOT), os.environ.get("PYTHONPATH")]))
        environment = os.environ | private | {"IPYTHONDIR": str(folder / "ipython"), "PYTHONPATH": path} | variables
        self.runtime = folder / "runtime"
        self.log: list[str] = []
        self.process = subprocess.Popen(
            [sys.executable, "-m", *command],
            env=environment,
            stdin=subprocess.DEVNULL,
            stdout=subprocess.DEVNULL,
            stderr=subprocess.PIPE,
            text=True,
        )
        assert self.process.stderr is not None
        for line in self.process.stderr:
            self.log.append(line)
            if found := re.search(r"(http://127\.0\.0\.1:\d+)/\S*\?token=(\w+)", line):
                self.address, self.token = found.groups()
                break
        else:
            pytest.fail("the server ended before it served:\n" + "".join(self.log[-30:]))
        threading.Thread(target=self.log.extend, args=(self.process.stderr,), daemon=True).start()

    def stop(self) -> None:
        self.process.terminate()
        self.process.wait(30)

    def kernel(self) -> BlockingKernelClient:
        """A connection to the kernel that was started last."""
        newest = max(self.runtime.glob("kernel-*.json"), key=lambda path: path.stat().st_mtime)
        client = BlockingKernelClient(connection_file=str(newest))
        client.load_connection_file()
        client.start_channels()
        client.wait_for_ready(timeout=60)
        return client


def value_of(kernel: BlockingKernelClient, expression: str) -> Any:
    """What an expression is worth in the kernel; it must have a literal's repr."""
    message = kernel.execute("", silent=True, user_expressions={"it": expression})
    result = kernel.get_shell_msg(timeout=60)
    while result["parent_header"].get("msg_id") != message:
        result = kernel.get_shell_msg(timeout=60)
    answer = result["content"]["user_expressions"]["it"]
    assert answer["status"] == "ok", answer
    return eval(answer["data"]["text/plain"], {"nan": float("nan")})


def write_notebook(path: Path, *cells: str) -> None:
    spec = {"kernelspec": {"name": "python3", "display_name": "Python 3", "language": "python"}}
    notebook = nbformat.v4.new_notebook(cells=[nbformat.v4.new_code_cell(cell) for cell in cells], metadata=spec)
    path.parent.mkdir(parents=True, exist_ok=True)
    nbformat.write(notebook, path)


@contextmanager
def evidence(page: Page, name: str) -> Iterator[None]:
    """Where the test fails, a screenshot and a trace stay in build/browser/."""
    page.context.tracing.start(snapshots=True)  # films cost more than the tests
    try:
        yield
    except BaseException:
        EVIDENCE.mkdir(parents=True, exist_ok=True)
        page.screenshot(path=EVIDENCE / f"{name}.png")
        page.context.tracing.stop(path=EVIDENCE / f"{name}.zip")
        raise
    page.context.tracing.stop()


@contextmanager
def quiet(page: Page) -> Iterator[None]:
    """The browser's console has no error, and no script fails."""
    said: list[str] = []

    def printed(message: ConsoleMessage) -> None:
        if message.type == "error":
            said.append(message.text)

    def failed(error: Error) -> None:
        said.append(str(error))

    page.on("console", printed)
    page.on("pageerror", failed)
    yield
    page.remove_listener("console", printed)
    page.remove_listener("pageerror", failed)
    assert not said, said


def nameless(page: Page, selector: str, number: int = 0) -> list[str]:
    """What assistive technology finds without a name below an element: "role 'value'"."""
    session = page.context.new_cdp_session(page)
    element = session.send("Runtime.evaluate", {"expression": f"document.querySelectorAll({selector!r})[{number}]"})[
        "result"
    ]
    nodes = session.send("Accessibility.queryAXTree", {"objectId": element["objectId"]})["nodes"]
    found = [(node["role"]["value"], node.get("name", {}).get("value", "")) for node in nodes if not node["ignored"]]
    assert {role for role, _ in found} & {"spinbutton", "combobox", "radio"}, f"no control below {selector}: {found}"
    return [role for role, name in found if role in CONTROLS and not name.strip()]


def violations(page: Page, selector: str | None = None) -> list[str]:
    """What breaks WCAG 2.2 by axe-core on the page, or below an element: "rule: the first element that breaks it"."""
    axe = pytest.importorskip("axe_playwright_python.sync_playwright").Axe()
    found = axe.run(page, context=selector, options={"runOnly": WCAG, "resultTypes": ["violations"]}).response[
        "violations"
    ]
    return [f"{each['id']}: {each['nodes'][0]['html'][:200]}" for each in found]


def run_all(page: Page) -> None:
    """Run every cell, as a student would."""
    # The status bar says it in words, but Notebook 7 has none.
    page.locator(".jp-Notebook-ExecutionIndicator[data-status='idle']").wait_for(timeout=120_000, state="attached")
    page.evaluate(CELLS_BEGIN)
    # The page says "idle" before it has its kernel, and runs nothing then.
    for _ in range(30):
        page.get_by_role("menuitem", name="Run", exact=True).click()
        page.get_by_role("menuitem", name="Run All Cells", exact=True).click()
        try:
            page.wait_for_function("() => window.cellBegan", timeout=4_000)
            return
        except TimeoutError:
            continue
    pytest.fail("no cell ran")


def tab_to(page: Page, name: str, role: Role, most: int = 80) -> None:
    """Press Tab until the control of that name has the focus."""
    wanted = page.locator(".covlab-explorer").get_by_role(role, name=name, exact=True)
    for _ in range(most):
        page.keyboard.press("Tab")
        if wanted.evaluate("element => element === document.activeElement"):
            return
    pytest.fail(f"no way by Tab to the {role} {name!r}")
