"""Test how a report shows itself in a notebook, in a console and in terminals."""

import io
import re
import sys
from types import SimpleNamespace

import pytest
from rich.console import Console
from small_training import run_loop

from covlab.watch import watch
from covlab.watch.blind_spots import CODE, EXAMPLE
from covlab.watch.invariant_pages import run_example
from covlab.watch.invariants import INVARIANTS
from covlab.watch.seen.location import CodeLocation

LOOP = """
import torch
model = torch.nn.Linear(8, 1)
optimizer = torch.optim.SGD(model.parameters(), lr=0.01)
for _ in range(20):
    model(torch.randn(4, 8)).square().mean().backward()
    optimizer.step()
"""


def test_a_line_in_a_notebook_is_told_by_the_number_of_its_cell() -> None:
    from IPython.core.interactiveshell import InteractiveShell

    shell = InteractiveShell.instance()
    try:
        for _ in range(3):
            shell.run_cell("1", store_history=True)
        with watch() as w:
            shell.run_cell(LOOP.strip(), store_history=True)
        report = w.report()
    finally:
        InteractiveShell.clear_instance()
    [finding] = [one for one in report.findings if one.code == "W18"]
    assert str(finding.location) == "cell In[4], line 6"
    assert "cell In[4], line 6" in report._repr_html_() and "ipython-input" not in str(report)


def test_a_cell_of_a_kernel_has_the_number_that_its_compiler_knows(monkeypatch: pytest.MonkeyPatch) -> None:
    """ipykernel compiles a cell under the name of a temporary file."""
    numbers = {"/tmp/ipykernel_3/1.py": ("Cell", "In[12]")}
    shell = SimpleNamespace(compile=SimpleNamespace(format_code_name=numbers.get))
    for found, told in ((shell, "cell 12, line 3"), (None, "a cell of this notebook, line 3")):
        monkeypatch.setitem(sys.modules, "IPython", SimpleNamespace(get_ipython=lambda found=found: found))
        assert str(CodeLocation("/tmp/ipykernel_3/1.py", 3, "f")) == told
    monkeypatch.setitem(sys.modules, "IPython", SimpleNamespace(get_ipython=lambda: shell))
    assert str(CodeLocation("/tmp/ipykernel_3/other.py", 3, "f")) == "a cell of this notebook, line 3"


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
