"""The editions, a student's working copies, and the runner."""

import asyncio
import importlib.util
import json
import os
import re
import select
import signal
import subprocess
import sys
import time
import xml.etree.ElementTree as xml
from pathlib import Path
from typing import Any

import nbformat
import psutil
import pytest
import zmq
import zmq.asyncio
from click.testing import CliRunner
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from jupyter_client.session import Session
from toys import CHECK, EXERCISE, HEADER, PARAMETERS, SOLUTION, TITLE, write_lesson

import covlab
from covlab import __version__, junit
from covlab.cli.main import main
from covlab.course import editions, lesson_processes, student_record, workspace
from covlab.course.claims import read_claims
from covlab.course.editions import (
    REPOSITORY,
    LessonError,
    read_lesson,
    read_lessons,
    stale_student_editions,
    tags,
    write_student_editions,
)
from covlab.course.notebook_process import ShellChannel, ThisPython
from covlab.course.runner import GRACE, Run, run_all

ROOT = Path(__file__).parents[1]

# Editions


def test_student_edition_has_the_exercise_but_not_its_solution(tmp_path: Path) -> None:
    lesson = read_lesson(write_lesson(tmp_path, "01_toy", TITLE, EXERCISE, SOLUTION, CHECK))
    assert [c.source for c in lesson.student.cells[-2:]] == ["answer = None", CHECK.removeprefix("# %%\n")]
    assert not any("solution" in tags(cell) for cell in lesson.student.cells)
    assert "answer = 42" in [cell.source for cell in lesson.instructor.cells]
    assert all(not cell.outputs for cell in lesson.student.cells if cell.cell_type == "code")


def test_ids_are_deterministic_and_survive_an_insertion(tmp_path: Path) -> None:
    before = read_lesson(write_lesson(tmp_path, "01_toy", TITLE, CHECK, CHECK)).student.cells
    again = read_lesson(write_lesson(tmp_path, "01_toy", TITLE, CHECK, CHECK)).student.cells
    after = read_lesson(write_lesson(tmp_path, "01_toy", "# %%\n1 + 1", TITLE, CHECK, CHECK)).student.cells
    assert [c.id for c in before] == [c.id for c in again]
    assert [c.id for c in before] == [c.id for c in after if c.source != "1 + 1"]
    assert len({c.id for c in before}) == len(before)


def test_only_cells_tagged_hide_input_are_folded_in_jupyterlab(tmp_path: Path) -> None:
    drawing = '# %% tags=["hide-input"]\nprint(seed)'
    lesson = read_lesson(write_lesson(tmp_path, "01_toy", TITLE, CHECK, drawing, CHECK))
    for edition in (lesson.student, lesson.instructor):
        folded = [cell for cell in edition.cells if cell.metadata.get("jupyter", {}).get("source_hidden")]
        assert [cell.source for cell in folded if not cell.id.endswith("-install")] == ["print(seed)"]


@pytest.mark.parametrize("address", [True, False])
@pytest.mark.parametrize("host", ["", "COLAB_RELEASE_TAG", "KAGGLE_KERNEL_RUN_TYPE"])
def test_a_notebook_alone_installs_covlab_only_on_a_host_and_only_from_its_repository(
    host: str, address: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    repository = "https://code.invalid/covlab" if address else REPOSITORY
    cell = editions._cell_that_installs("05_toy", repository).source.replace("%pip install --quiet", "pip =")
    installed: dict[str, str] = {}
    exec(cell, installed)  # covlab is here, so it does nothing
    assert "pip" not in installed
    monkeypatch.setattr(importlib.util, "find_spec", lambda name: None)
    for name in ("COLAB_RELEASE_TAG", "KAGGLE_KERNEL_RUN_TYPE"):
        monkeypatch.delenv(name, raising=False)
    if host:
        monkeypatch.setenv(host, "x")
    if host and address:
        exec(cell, installed)
        assert installed["pip"] == f"covlab[notebook] @ git+{repository}@v{__version__}"
    else:
        with pytest.raises(ModuleNotFoundError, match="wheel" if host else "make lab"):
            exec(cell, {})


def test_student_edition_is_written_once_and_staleness_is_seen(tmp_path: Path) -> None:
    source = write_lesson(tmp_path, "01_toy", TITLE, EXERCISE, SOLUTION, CHECK)
    assert stale_student_editions(tmp_path) == ["01_toy.ipynb"]
    assert write_student_editions(tmp_path) == ["01_toy.ipynb"]
    assert write_student_editions(tmp_path) == []
    nbformat.validate(nbformat.read(tmp_path / "notebooks" / "01_toy.ipynb", as_version=4))

    write_lesson(tmp_path, "01_toy", TITLE, CHECK)
    assert stale_student_editions(tmp_path) == ["01_toy.ipynb"]
    source.rename(source.with_name("02_toy.py"))
    assert write_student_editions(tmp_path) == ["01_toy.ipynb", "02_toy.ipynb"]
    assert [path.name for path in (tmp_path / "notebooks").iterdir()] == ["02_toy.ipynb"]


@pytest.mark.skipif(not list((ROOT / "lessons").glob("*.py")), reason="there is no lesson yet")
def test_committed_notebooks_agree_with_their_lessons() -> None:
    assert stale_student_editions(ROOT) == [], "run `make notebooks`"


@pytest.mark.parametrize(
    "name, cells, complaint",
    [
        ("01_toy", [SOLUTION], "follows no cell tagged 'exercise'"),
        ("01_toy", [EXERCISE, CHECK, SOLUTION], "follows no cell tagged 'exercise'"),
        ("01_toy", [PARAMETERS], "2 cells are tagged 'parameters'"),
        ("01_toy", [EXERCISE, SOLUTION.replace("solution", "solutions")], "tagged solutions; there are"),
        ("01_toy", ['# %% covlab={"budget": "5"}\n1'], "a budget is '5', expected seconds"),
        ("01_toy", ['# %% covlab={"budget": 0}\n1'], "a budget is 0"),
        ("toy", [TITLE], "a lesson is called"),
    ],
)
def test_a_lesson_that_breaks_a_rule_is_refused(tmp_path: Path, name: str, cells: list[str], complaint: str) -> None:
    with pytest.raises(LessonError, match=complaint):
        read_lesson(write_lesson(tmp_path, name, *cells))


def test_a_lesson_without_kernelspec_is_refused(tmp_path: Path) -> None:
    path = write_lesson(tmp_path, "01_toy", TITLE)
    path.write_text(path.read_text().removeprefix(HEADER))
    with pytest.raises(LessonError, match="kernelspec"):
        read_lesson(path)


def test_a_missing_lesson_is_reported(tmp_path: Path) -> None:
    (tmp_path / "lessons").mkdir()
    with pytest.raises(LessonError, match="no lesson in"):
        read_lessons(tmp_path)
    write_lesson(tmp_path, "01_toy", TITLE)
    with pytest.raises(LessonError, match="'07'.*01_toy"):
        read_lessons(tmp_path, ("07",))


# Working copies


def test_a_students_file_is_never_overwritten(tmp_path: Path) -> None:
    write_lesson(tmp_path, "01_toy", TITLE)
    write_lesson(tmp_path, "02_toy", TITLE)
    write_student_editions(tmp_path)
    mine = tmp_path / "work" / "01_toy.ipynb"
    assert [path.name for path in workspace.fill(tmp_path)] == ["01_toy.ipynb", "02_toy.ipynb"]
    mine.write_text("my work")
    (tmp_path / "work" / "02_toy.ipynb").unlink()
    assert [path.name for path in workspace.fill(tmp_path)] == ["02_toy.ipynb"]

    fresh = [workspace.reset(tmp_path, "01") for _ in range(3)]
    assert [path.name for path in fresh] == ["01_toy_fresh.ipynb", "01_toy_fresh2.ipynb", "01_toy_fresh3.ipynb"]
    assert mine.read_text() == "my work"
    assert fresh[2].read_bytes() == (tmp_path / "notebooks" / "01_toy.ipynb").read_bytes()


def test_jupyterlab_opens_lesson_00_first_and_later_the_lesson_last_worked_on(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    for name in ("00_start", "05_toy", "11_toy"):
        write_lesson(tmp_path, name, TITLE)
    write_student_editions(tmp_path)
    started: list[list[str]] = []
    monkeypatch.setattr(os, "execv", lambda program, command: started.append(command))

    def opened() -> list[str]:
        assert CliRunner().invoke(main, ["course", "lab", "--root", str(tmp_path), "--no-browser"]).exit_code == 0
        return [word.rpartition("/")[2] for word in started[-1] if "default_url" in word]

    assert opened() == ["00_start.ipynb"]
    monkeypatch.setenv(student_record.VARIABLE, str(tmp_path / "work" / student_record.NAME))
    student_record.remember_prediction("05.toy", "a", ["a", "b"])
    assert opened() == ["05_toy.ipynb"]
    student_record.remember_try("11.toy", None, solved=False)
    assert opened() == ["11_toy.ipynb"]
    fresh = workspace.reset(tmp_path, "11")
    os.utime(fresh, (2e9, 2e9))
    assert opened() == [fresh.name]
    student_record.remember_outcome("05.toy")
    assert opened() == ["05_toy.ipynb"]
    for gone in (tmp_path / "work").glob("05_*"):
        gone.unlink()
    student_record.remember_try("12.of_another_clone", None, solved=False)
    assert opened() == ["00_start.ipynb"]


@pytest.mark.parametrize("word", ["", "0", "7"])
def test_reset_wants_exactly_one_lesson(tmp_path: Path, word: str) -> None:
    write_lesson(tmp_path, "01_toy", TITLE)
    write_lesson(tmp_path, "02_toy", TITLE)
    write_student_editions(tmp_path)
    with pytest.raises(ValueError, match="01_toy, 02_toy"):
        workspace.reset(tmp_path, word)


# The runner


def test_runner_distinguishes_good_bad_hanging_and_dying_lessons(tmp_path: Path) -> None:
    write_lesson(tmp_path, "01_good", TITLE, EXERCISE, SOLUTION, CHECK)
    write_lesson(tmp_path, "02_bad", TITLE, "# %%\nprint('so far')", "# %%\nlosses = {}\nlosses['train']")
    write_lesson(
        tmp_path,
        "03_hangs",
        TITLE,
        '# %% covlab={"budget": 0.5}\nprint("going in", flush=True)\nimport time; time.sleep(600)',
    )
    write_lesson(tmp_path, "04_dies", TITLE, "# %%\nimport os; os.abort()")
    write_lesson(tmp_path, "05_good", TITLE)

    done = CliRunner().invoke(main, ["course", "run", "--root", str(tmp_path), "--jobs", "2"])
    assert done.exit_code == 1, done.output

    results = json.loads((tmp_path / "build/course/results.json").read_text())
    lessons = {entry["lesson"]: entry for entry in results["lessons"]}
    assert {name: entry["status"] for name, entry in lessons.items()} == {
        "01_good": "passed",
        "02_bad": "failed",
        "03_hangs": "timed out",
        "04_dies": "kernel died",
        "05_good": "passed",
    }
    assert not results["passed"]
    assert results["environment"]["versions"]["papermill"]
    assert lessons["01_good"]["parameters"] == {"seed": 0, "profile": "cpu"}
    assert lessons["01_good"]["source_sha256"] == read_lessons(tmp_path)[0].digest

    [error] = lessons["02_bad"]["findings"]
    assert error["message"] == "KeyError: 'train'"
    assert any("losses['train']" in line for line in error["last_lines"])
    place, line = error["place"].split(":")
    assert (tmp_path / place).read_text().splitlines()[int(line) - 1] == "losses = {}"
    assert lessons["03_hangs"]["findings"][0]["last_lines"] == ["going in"]

    suites = xml.parse(tmp_path / "build/course/junit.xml").getroot()
    assert {suite.get("name"): suite.get("failures") for suite in suites} == {
        "01_good": "0",
        "02_bad": "1",
        "03_hangs": "1",
        "04_dies": "1",
        "05_good": "0",
    }
    failure = suites[1].find("testcase/failure")
    assert failure is not None and failure.text is not None
    assert "losses['train']" in failure.text

    # Without a terminal, there is one line per lesson, followed by the failures.
    assert all(sum(line.startswith(name) for line in done.output.splitlines()) == 1 for name in lessons)
    assert "lessons/02_bad.py" in done.output

    again = CliRunner().invoke(main, ["course", "report", "--root", str(tmp_path)])
    assert again.exit_code == 1
    assert "KeyError: 'train'" in again.output


def test_the_report_is_one_page_that_fetches_nothing(tmp_path: Path) -> None:
    write_lesson(
        tmp_path,
        "01_good",
        "# %% [markdown]\n# # Title\n# The ratio is $\\frac{a}{b}$.",
        '# %%\nfrom IPython.display import HTML\nHTML(\'<img alt="a falling line" src="data:image/png;base64,AA==">\')',
        "# %%\nimport ipywidgets\nipywidgets.IntSlider()",
    )
    done = CliRunner().invoke(main, ["course", "run", "--root", str(tmp_path)])
    assert done.exit_code == 0, done.output
    assert "1 of 1 lessons passed" in done.output
    page = (tmp_path / "build/course/index.html").read_text()
    assert not re.search(r"""(src|href)=["'](?!#|data:)|@import|<script|url\((?!["']?data:)""", page)
    assert 'alt="a falling line"' in page
    assert "<mfrac>" in page


MEASURES = "# %%\nimport covlab.course\ncovlab.course.measure('01.r', {value})"
WAITS = """# %%
import time
from pathlib import Path
(Path({folder!r}) / "{mine}").touch()
while not (Path({folder!r}) / "{other}").exists():
    time.sleep(0.05)"""


def test_of_two_runs_at_once_each_has_its_own_result(tmp_path: Path) -> None:
    for mine, other, value in (("a", "b", 4), ("b", "a", 5)):
        (tmp_path / mine).mkdir()
        waits = WAITS.format(folder=str(tmp_path), mine=f"{mine}.here", other=f"{other}.here")
        write_lesson(tmp_path / mine, "01_toy", waits, MEASURES.format(value=value), waits)
        (tmp_path / mine / "lessons/claims.toml").write_text('["01.r"]\nvalue = 4\ntolerance = 0.5\nreason = "exact"\n')
        (tmp_path / mine / "build").symlink_to(tmp_path / "build")
    (tmp_path / "build").mkdir()
    processes = [running(tmp_path / name) for name in ("a", "b")]
    outputs = [process.communicate()[0] for process in processes]
    assert [process.returncode for process in processes] == [0, 1], outputs
    assert "measured 5" in outputs[1]
    results = json.loads((tmp_path / "build/course/results.json").read_text())
    [shown] = xml.parse(tmp_path / "build/course/junit.xml").getroot()
    assert results["passed"] == (shown.get("failures") == "0") == (results["claims"][0]["measured"] == [4])
    executed = (tmp_path / "build/course/01_toy.ipynb").read_text()
    assert ('"value": 4.0' in executed) == results["passed"]


def test_a_run_that_fails_to_begin_leaves_the_last_results(tmp_path: Path) -> None:
    write_lesson(tmp_path, "01_toy", TITLE)
    assert CliRunner().invoke(main, ["course", "run", "--root", str(tmp_path)]).exit_code == 0
    before = {path: path.read_bytes() for path in (tmp_path / "build/course").rglob("*") if path.is_file()}
    assert CliRunner().invoke(main, ["course", "run", "--root", str(tmp_path), "-p", "sead", "1"]).exit_code == 2
    assert {path: path.read_bytes() for path in (tmp_path / "build/course").rglob("*") if path.is_file()} == before


# What a lesson does to the runner -> what its only finding says.
HOSTILE = {
    "a measurement that is text": ("display({MEASUREMENT: 'four'}, raw=True)", "a measurement is 'four'"),
    "a wrong measurement of another lesson": ("measure('99.r', 5)", "claim 99.r is 4 ± 0.5, measured 5"),
    "a wrong measurement that is cleared": (
        "measure('99.r', 5); IPython.display.clear_output()",
        "claim 99.r is 4 ± 0.5, measured 5",
    ),
    "its working directory": ("shutil.rmtree(os.getcwd())", "FileNotFoundError"),
    "the folder of the run": ("shutil.rmtree('../..')", "FileNotFoundError"),
    "the process that runs it": ("os.kill(os.getppid(), 9)", "ended with code -9"),
    "a broken widget": ("display({VIEW: 'x', 'text/plain': ''}, raw=True)", "its results cannot be checked"),
    "HTML that is a number": ("display({'text/html': 5}, raw=True)", "Error: "),
    "its source, and a long message that XML cannot hold": (
        "os.remove(source); raise ValueError('\\x00\\ufffe' + 'x' * 3_000_000)",
        "ValueError: ",
    ),
    "its events": ('os.write(1, b\'{"status": "passed"}\\n\'); os._exit(0)', "the kernel died"),
    "long outputs": ("for _ in range(9): print('x' * 1_000_000)", "the outputs are longer than 8000000 characters"),
}


def test_no_lesson_takes_the_course_down(tmp_path: Path) -> None:
    begin = """# %%
import os, shutil, IPython.display
from IPython.display import display
from covlab.course import MEASUREMENT, measure
VIEW = "application/vnd.jupyter.widget-view+json"
source = {source!r}
"""
    for number, (code, _) in enumerate(HOSTILE.values(), 10):
        source = tmp_path / "lessons" / f"{number}_toy.py"
        write_lesson(tmp_path, source.stem, begin.format(source=str(source)) + code)
    write_lesson(tmp_path, "99_good", MEASURES.replace("01.r", "99.r").format(value=4))
    (tmp_path / "lessons/claims.toml").write_text('["99.r"]\nvalue = 4\ntolerance = 0.5\nreason = "exact"\n')
    done = CliRunner().invoke(main, ["course", "run", "--root", str(tmp_path)])
    assert done.exit_code == 1, done.output
    results = json.loads((tmp_path / "build/course/results.json").read_text())
    *hostile, good = results["lessons"]
    assert good["status"] == "passed"
    assert len(hostile) == len(HOSTILE)
    suites = xml.parse(tmp_path / "build/course/junit.xml").getroot()
    for lesson, suite, (name, (_, words)) in zip(hostile, suites, HOSTILE.items(), strict=False):
        [finding] = lesson["findings"]
        assert words in finding["message"], name
        assert lesson["status"] in ("failed", "kernel died"), name
        assert suite.get("failures") == "1", name
    assert sum(path.stat().st_size for path in (tmp_path / "build/course").rglob("*")) < 30_000_000


ANY_TEXT = st.text(st.characters(exclude_categories=()), max_size=6) | st.sampled_from(
    ["\x00", "\x1b[31m", "\ud800", "\udfff\ud800", "\ufffe\uffff", "]]>", "<!--", "&#0;", "x" * 3_000_000]
)


@settings(suppress_health_check=[HealthCheck.function_scoped_fixture, HealthCheck.too_slow])
@given(st.tuples(*[ANY_TEXT] * 6))
def test_junit_is_well_formed_and_short_whatever_was_said(tmp_path: Path, texts: tuple[str, ...]) -> None:
    name, case, kind, message, text, time = texts
    cases = [junit.Case(case, (kind, message, text)), junit.Case(case, skipped=message, output=text)]
    junit.write(junit.suite(name, cases, time=time), tmp_path / "junit.xml")
    suite = xml.parse(tmp_path / "junit.xml").getroot()
    assert (suite.get("tests"), suite.get("failures"), len(suite)) == ("2", "1", 2)
    assert (tmp_path / "junit.xml").stat().st_size < 20_000_000


def test_runner_without_lessons_is_an_error_that_names_the_folder(tmp_path: Path) -> None:
    (tmp_path / "lessons").mkdir()
    done = CliRunner().invoke(main, ["course", "run", "--root", str(tmp_path)])
    assert done.exit_code == 1
    assert f"no lesson in {tmp_path / 'lessons'}" in done.output


def test_a_folder_without_lessons_gets_those_of_the_package(tmp_path: Path) -> None:
    names = [f"{lesson.name}.ipynb" for lesson in read_lessons(Path(covlab.__file__).parents[1])]
    assert [path.name for path in workspace.fill(tmp_path)] == names
    assert student_record.read(tmp_path / "work" / student_record.NAME)["exercises"] == {}
    assert workspace.fill(tmp_path) == []
    write_lesson(tmp_path, "01_toy", TITLE)
    assert [lesson.name for lesson in read_lessons(tmp_path)] == ["01_toy"]


def test_where_the_system_cannot_end_a_lesson_with_its_runner_the_run_says_so(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("covlab.course.lesson_processes.IS_LINUX", False)
    write_lesson(tmp_path, "01_toy", TITLE)
    done = CliRunner().invoke(main, ["course", "run", "--root", str(tmp_path)])
    assert done.exit_code == 0 and done.stderr.count(lesson_processes.LIMIT) == 1


def test_only_some_lessons(tmp_path: Path) -> None:
    for name in ("01_toy", "02_toy", "03_toy"):
        write_lesson(tmp_path, name, TITLE)
    done = CliRunner().invoke(main, ["course", "run", "--root", str(tmp_path), "--jobs", "2", "--only", "01", "03"])
    assert done.exit_code == 0, done.output
    assert sorted(path.name for path in (tmp_path / "build/course").glob("*.ipynb")) == ["01_toy.ipynb", "03_toy.ipynb"]


def test_every_lesson_has_one_thread(tmp_path: Path) -> None:
    shown = "# %%\nimport os; print(os.environ.get('OMP_NUM_THREADS'))"
    lesson = read_lesson(write_lesson(tmp_path, "01_toy", shown))
    runs = [Run(lesson, tmp_path / str(number)) for number in range(2)]
    run_all(runs, {}, jobs=os.cpu_count() or 1)
    assert all('"1\\n"' in run.executed.read_text() for run in runs)


def test_a_reply_that_comes_while_a_widget_is_answered_is_read_at_once() -> None:
    async def reply_to_a_cell() -> str:
        context, session = zmq.asyncio.Context(), Session(key=b"")
        kernel: Any = zmq.Context.shadow(context.underlying).socket(zmq.ROUTER)
        socket = context.socket(zmq.DEALER)
        socket.connect(f"tcp://127.0.0.1:{kernel.bind_to_random_port('tcp://127.0.0.1')}")
        channel = ShellChannel(socket, session)
        try:
            channel.send(session.msg("execute_request", {}))
            client = kernel.recv_multipart()[0]
            waiting = asyncio.ensure_future(channel.get_msg())
            await asyncio.sleep(0)
            session.send(kernel, "execute_reply", {}, ident=client)
            assert select.select([socket.fileno()], [], [], 60)[0]  # the reply came, and the loop has not seen it yet
            channel.send(session.msg("comm_msg", {}))
            return (await asyncio.wait_for(waiting, 60))["msg_type"]
        finally:
            for each in (kernel, socket):
                each.close(linger=0)
            context.term()

    assert asyncio.run(reply_to_a_cell()) == "execute_reply"
    assert ThisPython(ip="127.0.0.1").client().shell_channel_class is ShellChannel  # what a lesson runs with


def running(root: Path, *options: str) -> subprocess.Popen:
    """Start `covlab course run` as a process of its own."""

    def heard() -> None:  # a shell in the background ignores SIGINT, and nohup ignores SIGHUP: a child inherits that
        for number in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP):
            signal.signal(number, signal.SIG_DFL)

    return subprocess.Popen(
        [sys.executable, "-m", "covlab", "course", "run", "--root", str(root), *options],
        preexec_fn=heard,  # noqa: PLW1509 - one thread
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
    )


def wait_for(path: Path, process: subprocess.Popen) -> str:
    """Return the text of a file that a lesson writes."""
    while process.poll() is None and not (path.exists() and path.read_text()):
        time.sleep(0.05)
    return path.read_text()


def alive(pid: int) -> bool:
    return psutil.pid_exists(pid) and psutil.Process(pid).status() != psutil.STATUS_ZOMBIE


def wait_until_dead(pids: list[int]) -> None:
    while any(map(alive, pids)):  # a process that never ends fails the test by its hanging
        time.sleep(0.05)


# A lesson with a child in its own session, and one without an environment whose parent has ended.
LONG = """# %%
import os, subprocess, sys, time
from pathlib import Path
folder = Path({folder!r})
here = subprocess.Popen(["sleep", "600"], stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
away = subprocess.Popen(
    ["sleep", "600"], start_new_session=True, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL
)
orphan = subprocess.run(
    ["env", "-i", "/bin/sh", "-c", "sleep 600 >/dev/null 2>&1 & echo $!"], capture_output=True, text=True
)
pids = [os.getpid(), os.getppid(), here.pid, away.pid, int(orphan.stdout)]
(folder / "new").write_text(" ".join(map(str, pids)))
(folder / "new").rename(folder / "pids")
{end}"""


@pytest.mark.parametrize("stop", ["SIGINT", "SIGTERM", "SIGHUP"])
def test_a_run_that_is_stopped_leaves_a_report_and_no_process(tmp_path: Path, stop: str) -> None:
    write_lesson(tmp_path, "01_good", TITLE)
    write_lesson(tmp_path, "02_long", TITLE, LONG.format(folder=str(tmp_path), end="time.sleep(600)"))
    write_lesson(tmp_path, "03_waits", TITLE)
    process = running(tmp_path)
    pids = wait_for(tmp_path / "pids", process)
    process.send_signal(getattr(signal, stop))
    assert process.wait() == 130
    results = json.loads((tmp_path / "build/course/results.json").read_text())
    assert [entry["status"] for entry in results["lessons"]] == ["passed", "interrupted", "interrupted"]
    assert "never began" in (tmp_path / "build/course/index.html").read_text()
    assert [pid for pid in map(int, pids.split()) if alive(pid)] == []
    assert [path.name for path in (tmp_path / "build").glob(".*")] in ([], [".course.lock"])


@pytest.mark.skipif(not sys.platform.startswith("linux"), reason="only Linux ends a process with its parent")
def test_a_killed_runner_leaves_no_process_and_the_next_run_removes_its_folder(tmp_path: Path) -> None:
    write_lesson(tmp_path, "01_long", TITLE, LONG.format(folder=str(tmp_path), end="time.sleep(600)"))
    process = running(tmp_path)
    pids = wait_for(tmp_path / "pids", process)
    process.kill()
    wait_until_dead([int(pid) for pid in pids.split()])
    assert len(list((tmp_path / "build").glob(".course-*"))) == 2  # a folder and its lock
    write_lesson(tmp_path, "01_long", TITLE)
    assert CliRunner().invoke(main, ["course", "run", "--root", str(tmp_path)]).exit_code == 0
    assert list((tmp_path / "build").glob(".course-*")) == []


@pytest.mark.parametrize("end", ["", "os._exit(1)", "os.kill(os.getppid(), 9); time.sleep(600)"])
def test_no_process_outlives_its_lesson(tmp_path: Path, end: str) -> None:
    run = Run(read_lesson(write_lesson(tmp_path, "01_toy", LONG.format(folder=str(tmp_path), end=end))), tmp_path)
    run_all([run], {})
    assert run.failed == bool(end)
    *pids, orphan = map(int, (tmp_path / "pids").read_text().split())
    assert not any(map(alive, pids))
    if "getppid" in end:  # nothing finds a process without an environment whose parents were all killed
        psutil.Process(orphan).kill()
    wait_until_dead([orphan])


@pytest.mark.slow
def test_a_process_that_ignores_its_limit_is_killed_with_its_kernel(tmp_path: Path) -> None:
    # The lesson stops the process that keeps its time.
    stop = LONG.format(folder=str(tmp_path), end="os.kill(os.getppid(), 19); time.sleep(600)")
    run = Run(read_lesson(write_lesson(tmp_path, "01_stuck", TITLE, stop)), tmp_path / "out", budget=3)
    run_all([run], {})
    assert run.status == "timed out"
    assert run.seconds < 3 * 3 + GRACE + 5
    assert not any(map(alive, map(int, (tmp_path / "pids").read_text().split())))


@pytest.mark.slow
@pytest.mark.skipif(not list((ROOT / "lessons").glob("*.py")), reason="there is no lesson yet")
def test_student_editions_run_to_the_end_with_every_exercise_open(tmp_path: Path) -> None:
    runs = [Run(lesson, tmp_path, edition="student") for lesson in read_lessons(ROOT)]
    run_all(runs, read_claims(ROOT))
    assert {run.lesson.name: run.problems for run in runs if run.failed} == {}


@pytest.mark.slow
def test_lessons_with_a_gpus_profile_hold_at_full_size(tmp_path: Path) -> None:
    """Run the size of a GPU profile on the CPU."""
    lessons = []
    for lesson in read_lessons(ROOT):
        text = lesson.source.read_text(encoding="utf-8")
        if "choose_scenario(device)" in text:
            (tmp_path / lesson.source.name).write_text(
                text.replace("choose_scenario(device)", 'choose_scenario("cuda")'), encoding="utf-8"
            )
            lessons.append(read_lesson(tmp_path / lesson.source.name))
    runs = [Run(lesson, tmp_path / "out", {"profile": "gpu"}, budget=900) for lesson in lessons]
    run_all(runs, read_claims(ROOT))
    assert {run.lesson.name: run.problems for run in runs if run.failed} == {}
    assert len(runs) == 5


def test_kernel_is_this_python_whatever_is_installed_for_the_user(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    spec = tmp_path / "home" / "kernels" / "python3"
    spec.mkdir(parents=True)
    (spec / "kernel.json").write_text(
        json.dumps(
            {"argv": ["/bin/false", "{connection_file}"], "display_name": "someone else's", "language": "python"}
        )
    )
    monkeypatch.setenv("JUPYTER_PATH", str(tmp_path / "home"))
    monkeypatch.setenv("JUPYTER_PREFER_ENV_PATH", "0")
    source = write_lesson(tmp_path, "01_toy", f"# %%\nimport sys; assert sys.executable == {sys.executable!r}")
    run = Run(read_lesson(source), tmp_path / "out")
    run_all([run], {})
    assert run.status == "passed", run.problems


def test_plain_papermill_runs_a_student_edition_from_anywhere(tmp_path: Path) -> None:
    write_lesson(tmp_path, "01_toy", TITLE, EXERCISE, SOLUTION, "# %%\nprint('seed', seed)")
    write_student_editions(tmp_path)
    elsewhere = tmp_path / "elsewhere"
    elsewhere.mkdir()
    subprocess.run(
        [sys.executable, "-m", "papermill", str(tmp_path / "notebooks/01_toy.ipynb"), "out.ipynb", "-p", "seed", "3"],
        cwd=elsewhere,
        check=True,
        capture_output=True,
    )
    assert "seed 3" in (elsewhere / "out.ipynb").read_text()
