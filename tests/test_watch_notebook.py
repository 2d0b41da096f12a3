"""Test how a report shows itself in a notebook, in a console and in terminals."""

import io
import re
import sys
import traceback
from collections.abc import Iterator
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
import torch
from rich.console import Console
from small_training import run_loop

from covlab.watch import watch
from covlab.watch.blind_spots import CODE, EXAMPLE
from covlab.watch.invariant_pages import run_example
from covlab.watch.invariants import INVARIANTS
from covlab.watch.seen.location import CodeLocation
from covlab.watch.seen.optimizer_search import OptimizerSearch

LOOP = """
import torch
model = torch.nn.Linear(8, 1)
optimizer = torch.optim.SGD(model.parameters(), lr=0.01)
for _ in range(20):
    model(torch.randn(4, 8)).square().mean().backward()
    optimizer.step()
"""


@pytest.fixture
def shell() -> Iterator[Any]:
    from IPython.core.interactiveshell import InteractiveShell

    yield InteractiveShell.instance()
    InteractiveShell.clear_instance()


def location_in(shell: Any, *cells: str) -> CodeLocation:
    """Return the line that W18 names where the cells run under a watch."""
    with watch() as w:
        for cell in cells:
            shell.run_cell(cell, store_history=True).raise_error()
    [finding] = [one for one in w.report().findings if one.code == "W18"]
    assert finding.location is not None and str(finding.location) in w.report()._repr_html_()
    return finding.location


def test_a_line_in_a_notebook_is_told_by_the_number_of_its_cell(shell: Any) -> None:
    for _ in range(3):
        shell.run_cell("1", store_history=True)
    found = location_in(shell, LOOP.strip())
    assert (str(found), found.code, found.path) == ("cell In[4], line 6", "optimizer.step()", None)


@pytest.mark.parametrize("magics", ["%%time", "%%capture", "%%capture\n%%time"])
def test_a_line_below_a_cell_magic_is_told_as_the_notebook_shows_it(shell: Any, magics: str) -> None:
    found = location_in(shell, "1", f"{magics}\n{LOOP.strip()}")
    line = 6 + len(magics.splitlines())
    assert str(found) == f"cell In[2], line {line}"
    assert found.code == "optimizer.step()" or "\n" in magics  # of the inner magic, IPython has the call alone


def test_a_function_is_told_by_the_cell_that_defines_it(shell: Any) -> None:
    train = LOOP.strip().replace("for _ in range(20):", "def train():")
    call = "for _ in range(20):\n    train()"
    assert str(location_in(shell, train, call)) == "cell In[1], line 6"
    assert str(location_in(shell, train, call)) == "cell In[3], line 6"  # the cell was run again
    edited = train.replace("def train", "# edited\ndef train")
    assert str(location_in(shell, edited, call)) == "cell In[5], line 7"
    assert str(location_in(shell, f"%time {call.split()[-1]}", call)) == "cell In[5], line 7"
    assert str(location_in(shell, f"%%time\n{train}\n1", call)) == "a cell of this notebook, line 6 under %%time"


@pytest.mark.parametrize("name", ["<stdin>", "<console>", "<python-input-3>", "<pyshell#2>", "<ipython-input-4-ab>"])
def test_what_is_typed_in_a_console_is_the_readers_code(name: str) -> None:
    with watch() as w:
        exec(compile(LOOP, name, "exec"), {})
    location = w.report().findings[0].location
    assert location is not None and (location.file, location.line, location.path) == (name, 7, None)


@pytest.mark.parametrize("file", ["/home/me/ipykernel_demo/train.py", "/home/me/ipython-input/train.py"])
def test_a_file_is_no_cell_because_of_its_folder(file: str) -> None:
    at = CodeLocation(file, 3, "f")
    assert at.path == file and str(at).endswith("/train.py:3")


def test_an_interrupt_leaves_a_report_and_no_trace_of_the_watch() -> None:
    def train() -> None:
        for number in range(20):
            for _ in range(3):
                torch.nn.functional.mse_loss(model(torch.ones(4, 8)), torch.ones(4, 1)).backward()
                if number == 15:
                    torch.set_grad_enabled(False)  # as where an interrupt comes inside torch.no_grad()
                    raise KeyboardInterrupt
            optimizer.step()
            optimizer.zero_grad()

    model = torch.nn.Sequential(torch.nn.Linear(8, 1))
    optimizer = torch.optim.SGD(model.parameters(), lr=0.01)
    call = torch.nn.Module.__dict__["__call__"]
    with pytest.raises(KeyboardInterrupt), watch() as w:
        train()
    assert torch.nn.Module.__dict__["__call__"] is call and torch.is_grad_enabled()
    report = w.report()
    assert [finding.code for finding in report.findings] == ["W01"]  # its last window is not whole: no W03
    assert report.ended == "ended by KeyboardInterrupt" and report.ended in report.summary
    with watch() as w:
        run_loop("textbook_missing_division_faulty")
    assert w.report().ended is None


def test_a_traceback_shows_no_line_of_the_watch() -> None:
    class Fails(torch.nn.Module):
        def forward(self, x: torch.Tensor) -> torch.Tensor:
            raise ValueError("own error")

    model = torch.nn.Sequential(torch.nn.Linear(8, 1), Fails())
    with pytest.raises(ValueError, match="own error") as caught, watch():
        model(torch.ones(4, 8)).sum().backward()
    files = [frame.filename for frame in traceback.extract_tb(caught.value.__traceback__)]
    assert len(files) > 2 and not [file for file in files if "covlab/watch" in Path(file).as_posix()]


def test_a_second_watch_is_refused_by_the_line_of_the_first(shell: Any) -> None:
    result = shell.run_cell(
        "from covlab.watch import watch\nwith watch():\n    with watch():\n        pass", store_history=True
    )
    message = "another watch is active, since cell In[1], line 2: use one at a time"
    assert str(result.error_in_exec) == message
    with watch():
        pass


def test_a_watch_that_cannot_begin_is_not_active(monkeypatch: pytest.MonkeyPatch) -> None:
    def interrupted(self: object, optimizer: object) -> None:
        raise KeyboardInterrupt

    optimizer = torch.optim.SGD([torch.ones(1, requires_grad=True)])
    call = torch.nn.Module.__dict__["__call__"]
    with monkeypatch.context() as patch:
        patch.setattr(OptimizerSearch, "adopt", interrupted)
        with pytest.raises(KeyboardInterrupt), watch(optimizer):
            pass
    assert torch.nn.Module.__dict__["__call__"] is call
    with watch(optimizer):
        pass


@pytest.mark.skipif(not Path("/dev/full").exists(), reason="there is no /dev/full")
def test_a_full_disk_costs_the_ledger_and_not_the_report(capsys: pytest.CaptureFixture[str]) -> None:
    with watch(ledger="/dev/full") as w:
        run_loop("textbook_missing_division_faulty")
    assert w.report().of("W01") is not None and w.ledger_error is not None
    assert capsys.readouterr().err == "covlab.watch: /dev/full was not written: No space left on device\n"


def test_verdicts_in_a_notebook_read_in_light_and_dark_themes() -> None:
    report = run_example({each.code: each.example for each in INVARIANTS}["W08"])
    grounds = re.findall(r"background: #(\w{6}); color: #fff", report._repr_html_())
    assert len(grounds) == len(report.findings)
    for ground in grounds:
        parts = [int(ground[at : at + 2], 16) / 255 for at in (0, 2, 4)]
        linear = [part / 12.92 if part <= 0.04045 else ((part + 0.055) / 1.055) ** 2.4 for part in parts]
        assert 1.05 / (0.2126 * linear[0] + 0.7152 * linear[1] + 0.0722 * linear[2] + 0.05) >= 4.5


def test_a_cell_of_a_kernel_has_the_number_that_its_compiler_knows(monkeypatch: pytest.MonkeyPatch) -> None:
    """ipykernel compiles a cell under the name of a temporary file."""
    numbers = {"/tmp/ipykernel_3/1.py": ("Cell", "In[12]")}
    shell = SimpleNamespace(compile=SimpleNamespace(format_code_name=numbers.get))
    for found, told in ((shell, "cell In[12], line 3"), (None, "a cell of this notebook, line 3")):
        monkeypatch.setitem(sys.modules, "IPython", SimpleNamespace(get_ipython=lambda found=found: found))
        assert str(CodeLocation("/tmp/ipykernel_3/1.py", 3, "f")) == told
    monkeypatch.setitem(sys.modules, "IPython", SimpleNamespace(get_ipython=lambda: shell))
    assert str(CodeLocation("/tmp/ipykernel_3/2.py", 3, "f")) == "a cell of this notebook, line 3"


def test_a_console_shows_the_report_and_not_its_fields() -> None:
    with watch() as w:
        run_loop("textbook_missing_division_faulty")
    assert repr(w.report()) == str(w.report())


@pytest.mark.parametrize("width", [40, 80, 200])
def test_a_report_fits_its_terminal_and_says_the_same_without_rich_and_color(width: int) -> None:
    example = {each.code: each.example for each in INVARIANTS}
    for report in (run_example(EXAMPLE), run_example(example["W08"])):
        said = []
        for colors in ("truecolor", None):
            out = io.StringIO()
            console = Console(file=out, width=width, color_system=colors, force_terminal=colors is not None)
            console.print(report)
            said.append(re.sub(r"\x1b\[[\d;]*m", "", out.getvalue()))
        assert said[0] == said[1]
        assert said[0].split() == str(report).split()
        for text, most in ((said[0], width), (str(report), 80)):
            assert all(len(line) <= most or " " not in line.strip() for line in text.splitlines())
        verdicts = re.findall(r"FAULT|WARNING|NOTE", said[0])
        assert len(verdicts) == len(report.findings)  # words, not colors alone
        codes = [CODE] if report.of(CODE) else ["W08", "W07"]
        assert said[0].split()[-len(codes) - 1 :] == ["explain", *codes]
