"""Lessons that papermill runs with exit code 0 although they fail: our runner must report them, and say why."""

import json
import math
import subprocess
import sys
from pathlib import Path

import nbformat
import pytest
from hypothesis import given
from hypothesis import strategies as st
from toys import CHECK, EXERCISE, SOLUTION, TITLE, write_lesson

from covlab.course import MEASUREMENT, VERDICT
from covlab.course.editions import read_lesson
from covlab.course.lesson_failures import Problem, Record, audit, exercise_problems, measurements
from covlab.course.runner import Run, run_all

# name -> (cells, kind of the finding, words of its message)
TRAPS: dict[str, tuple[list[str] | None, str, str]] = {
    "error_inside_interact": (
        [
            """
        import ipywidgets
        @ipywidgets.interact(x=(0, 3))
        def draw(x=1):
            raise KeyError("covariance")"""
        ],
        "widget",
        "a widget hides KeyError: 'covariance'",
    ),
    "error_inside_an_output_widget": (
        [
            """
        import ipywidgets
        from IPython.display import display
        out = ipywidgets.Output()
        display(ipywidgets.VBox([out]))
        with out:
            1 / 0"""
        ],
        "widget",
        "a widget hides ZeroDivisionError",
    ),
    "error_inside_an_explorer": (
        [
            """
        from covlab.widgets import NMSEExplorer
        explorer = NMSEExplorer()
        explorer.estimate = None
        explorer.show()"""
        ],
        "widget",
        "an explorer shows TypeError: 'NoneType' object is not callable",
    ),
    "error_in_an_output_widget_that_is_cleared": (
        [
            """
        import ipywidgets
        from IPython.display import display
        out = ipywidgets.Output()
        display(out)
        with out:
            {}["cleared"]
        out.clear_output()"""
        ],
        "widget",
        "the lesson cleared KeyError: 'cleared'",
    ),
    "traceback_on_stderr": (
        [
            """
        import logging
        try:
            1 / 0
        except ZeroDivisionError:
            logging.exception("went on")"""
        ],
        "stderr",
        "ZeroDivisionError: division by zero",
    ),
    "thread_fails_while_a_cell_runs": (
        [
            """
        import threading, time
        threading.Thread(target=lambda: [][0]).start(); time.sleep(0.3)"""
        ],
        "stderr",
        "IndexError",
    ),
    "thread_fails_after_the_last_cell": (
        [
            """
        import threading, time
        def late():
            time.sleep(0.3)
            raise IndexError("late")
        threading.Thread(target=late).start()"""
        ],
        "stderr",
        "IndexError: late",
    ),
    "child_process_fails": (
        [
            """
        import subprocess, sys
        subprocess.run([sys.executable, "-c", "raise KeyError('child')"])"""
        ],
        "stderr",
        "KeyError: 'child'",
    ),
    "task_fails": (
        [
            """
        import asyncio
        async def later():
            raise ValueError("in a task")
        task = asyncio.ensure_future(later())""",
            "1 + 1",
        ],
        "stderr",
        "ValueError: in a task",
    ),
    "error_in_del": (
        [
            """
        class Resource:
            def __del__(self):
                raise ValueError("in del")
        Resource()
        None"""
        ],
        "stderr",
        "ValueError: in del",
    ),
    "notebook_bar": (
        [
            """
        from tqdm.notebook import tqdm
        for _ in tqdm(range(3)): pass"""
        ],
        "progress",
        "a progress bar stays at 0 %",
    ),
    "text_bar": (
        [
            """
        from tqdm import tqdm
        bar = tqdm(total=10)"""
        ],
        "progress",
        "a progress bar stays at 0 %",
    ),
    "widget_bar": (
        [
            """
        import ipywidgets
        ipywidgets.IntProgress(value=3, max=10)"""
        ],
        "progress",
        "stays at 3 of 10",
    ),
    "picture_without_words": (
        [
            """
        import matplotlib.pyplot as plt
        plt.plot([1, 2]); plt.show()"""
        ],
        "alt",
        "covlab.plots.show",
    ),
    "html_picture_without_words": (
        [
            """
        from IPython.display import HTML
        HTML('<img src="data:image/png;base64,AA==" alt=" ">')"""
        ],
        "alt",
        "<img> without",
    ),
    "picture_widget": (
        [
            """
        import ipywidgets
        ipywidgets.Image(value=b"")"""
        ],
        "alt",
        "Image widget",
    ),
    "early_exit": (
        [
            """
        import sys
        sys.exit(0)""",
            "1 + 1",
        ],
        "missing",
        "SystemExit ends the notebook here",
    ),
    "exercise_without_verdict": (None, "exercise", "no verdict follows"),
    "exercise_that_fails_with_its_solution": (None, "exercise", "fails with its solution"),
}
SPECIAL = {
    "exercise_without_verdict": [EXERCISE, SOLUTION],
    "exercise_that_fails_with_its_solution": [EXERCISE, SOLUTION.replace("42", "41"), CHECK],
}
# Traps whose findings name their cell, so one lesson can have them all. It is the first that runs.
TOGETHER = [
    name for name, (_, kind, words) in TRAPS.items() if kind in ("widget", "progress", "alt") and "cleared" not in words
]
# Failures that Python and IPython keep to themselves -> what the runner says of each.
HIDDEN = {
    """
    import logging
    logging.getLogger("train").error("the loss is gone")""": "the logger 'train' has the ERROR the loss is gone",
    """
    from concurrent.futures import ThreadPoolExecutor
    with ThreadPoolExecutor(1) as executor:
        executor.submit(lambda: {}["future"])""": "nobody asked for: KeyError: 'future'",
    """
    import subprocess
    subprocess.run(["false"])
    None""": "the program ['false'] ended with exit code 1",
    """
    import numpy
    numpy.array([0.0]) / 0""": "RuntimeWarning: invalid value encountered in divide",
    """
    async def never(): pass
    never()
    None""": "coroutine 'never' was never awaited",
}
HARMLESS = {
    "lesson": """
    import sys, time, traceback, threading, ipywidgets
    from IPython.display import HTML, display
    from tqdm import tqdm
    for _ in tqdm(range(3)): pass
    print("40%|####      | 4/10", end="\\r"); print("100%|##########| 10/10")
    print("warning: not a failure", file=sys.stderr)
    try:
        1 / 0
    except ZeroDivisionError:
        print(traceback.format_exc())
    threading.Thread(target=print).start()
    display(HTML('<img alt="a line" src="data:image/png;base64,AA==">'), ipywidgets.IntProgress(value=10, max=10))
    @ipywidgets.interact(x=(0, 3))
    def draw(x=1):
        print(x)
    from covlab.widgets import LossWeightsExplorer
    explorer = LossWeightsExplorer()
    explorer.state = {"lam_cov": 0.0}  # refused, which is no error
    explorer.show()
    import logging, subprocess
    from concurrent.futures import ThreadPoolExecutor
    logging.warning("not an error")
    assert subprocess.run(["false"]).returncode == 1
    with ThreadPoolExecutor(1) as executor:
        assert isinstance(executor.submit(lambda: [][0]).exception(), IndexError)
    out = ipywidgets.Output()
    display(out)
    with out:
        print("cleared")
    out.clear_output()
    !true""",
    # ipykernel's control thread may flush the outputs after its main thread closed their channel; here it always does.
    "kernel_closes_early": """
    import atexit, threading, time
    from ipykernel.iostream import IOPubThread
    kernel, schedule = get_ipython().kernel, IOPubThread.schedule
    def late(channel, send):
        shutting_down = threading.current_thread() is kernel.control_thread and kernel._shutdown_message
        if shutting_down and send.__name__ == "_flush":
            channel._event_pipe.close()
        schedule(channel, send)
    IOPubThread.schedule = late
    atexit.register(time.sleep, 1)  # leaves the control thread time to say what went wrong""",
}


def cells(name: str) -> list[str]:
    return SPECIAL.get(name) or ["# %%\n" + dedent(code) for code in TRAPS[name][0] or []]


def dedent(code: str) -> str:
    lines = code.strip("\n").splitlines()
    margin = len(lines[0]) - len(lines[0].lstrip())
    return "\n".join(line[margin:] for line in lines)


@pytest.fixture(scope="module")
def runs(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Run]:
    """Every trap, and two lessons that only look like one, executed once."""
    folder = tmp_path_factory.mktemp("traps")
    texts = {"together": [text for name in TOGETHER for text in cells(name)]}
    texts |= {name: cells(name) for name in TRAPS if name not in TOGETHER}
    texts |= {name: ["# %%\n" + dedent(code)] for name, code in HARMLESS.items()}
    found = {
        name: Run(read_lesson(write_lesson(folder, f"{number:02}_{name}", TITLE, *text)), folder / "out")
        for number, (name, text) in enumerate(texts.items())
    }
    run_all(list(found.values()), {}, jobs=2)
    return found | dict.fromkeys(TOGETHER, found["together"])


def problems_of(run: Run, name: str) -> list[Problem]:
    """Return what the run says of one trap."""
    if name not in TOGETHER:
        return run.problems
    [text] = cells(name)
    [cell] = (cell.id for cell in run.lesson.notebook.cells if cell.source == text.removeprefix("# %%\n"))
    return [problem for problem in run.problems if problem.cell == cell]


@pytest.mark.parametrize("name", TRAPS)
def test_trap_fails_although_papermill_passes(runs: dict[str, Run], name: str) -> None:
    run, (_, kind, words) = runs[name], TRAPS[name]
    closing = json.loads((run.logs / "events.jsonl").read_text().splitlines()[-1])
    assert closing["status"] == "passed"
    assert run.status == "failed"
    problems = problems_of(run, name)
    assert [each.kind for each in problems] == [kind] * len(problems)
    assert any(words in each.message and each.fatal for each in problems), run.problems


def test_every_finding_of_the_traps_that_run_together_belongs_to_one_of_them(runs: dict[str, Run]) -> None:
    run = runs["together"]
    assert sum(len(problems_of(run, name)) for name in TOGETHER) == len(run.problems), run.problems


@pytest.mark.parametrize("name", HARMLESS)
def test_a_harmless_lesson_that_looks_like_a_trap_passes(runs: dict[str, Run], name: str) -> None:
    assert runs[name].status == "passed", runs[name].problems


def test_the_kernel_that_ends_badly_says_so_on_stderr(runs: dict[str, Run]) -> None:
    assert "Socket operation on non-socket" in (runs["kernel_closes_early"].logs / "stderr.txt").read_text()


def test_a_widget_error_names_the_cell_that_shows_the_widget(runs: dict[str, Run]) -> None:
    for name in ("error_inside_interact", "error_inside_an_output_widget"):
        [problem] = problems_of(runs[name], name)
        path, _, line = runs[name].location(problem).partition(":")
        assert path == f"lessons/{runs[name].lesson.source.name}"
        rest = runs[name].lesson.source.read_text().splitlines()[int(line) - 1 :]
        assert "\n".join(rest).startswith(cells(name)[0].removeprefix("# %%\n"))
        assert problem.lines


def test_what_python_and_ipython_hide_is_found(tmp_path: Path) -> None:
    cells = ["# %%\n" + dedent(code) for code in HIDDEN]
    run = Run(read_lesson(write_lesson(tmp_path, "01_hides", *cells)), tmp_path / "out")
    run_all([run], {})
    messages = [problem.message for problem in run.problems]
    assert run.status == "failed"
    for words in HIDDEN.values():
        assert any(words in message for message in messages), (words, messages)
    assert len(messages) == len(HIDDEN), messages


@pytest.mark.parametrize("cell", ["!false", "%%capture\n1 / 0"])
def test_a_failure_inside_a_magic_fails_its_cell(tmp_path: Path, cell: str) -> None:
    run = Run(read_lesson(write_lesson(tmp_path, "01_magic", f"# %%\n{cell}")), tmp_path / "out")
    run_all([run], {})
    assert run.status == "failed"
    assert run.problems[0].message.startswith(("CalledProcessError", "ZeroDivisionError"))


def test_a_student_edition_must_leave_every_exercise_open(tmp_path: Path) -> None:
    lesson = read_lesson(write_lesson(tmp_path, "01_open", EXERCISE, SOLUTION, CHECK))
    given_away = read_lesson(write_lesson(tmp_path, "02_solved", EXERCISE.replace("None", "42"), SOLUTION, CHECK))
    runs = [Run(each, tmp_path / "out", edition="student") for each in (lesson, given_away)]
    run_all(runs, {}, jobs=2)
    assert [run.status for run in runs] == ["passed", "failed"]
    assert "passes without a solution" in runs[1].problems[0].message


def test_a_slow_cell_is_reported_but_does_not_fail_the_lesson(tmp_path: Path) -> None:
    slow = '# %% covlab={"budget": 0.2}\nimport time; time.sleep(0.3)'
    run = Run(read_lesson(write_lesson(tmp_path, "01_slow", slow)), tmp_path / "out")
    run_all([run], {})
    assert run.status == "passed"
    assert [each.kind for each in run.problems] == ["slow"]


def test_pictures_in_markdown_need_words_too() -> None:
    cell = nbformat.v4.new_markdown_cell
    notebook = nbformat.v4.new_notebook(cells=[cell("![a line](a.png)"), cell("![](b.png)"), cell('<img src="c.png">')])
    assert [each.kind for each in audit(notebook, "", 90)] == ["alt", "alt"]


@pytest.mark.parametrize(
    "kind, data, problem",
    [
        ("text/html", "<svg><path d='M0 0'/></svg>", "alt"),
        ("text/html", "<svg><title>a line</title><path d='M0 0'/></svg>", None),
        ("text/html", "<svg aria-label='a line'><svg></svg></svg><svg aria-hidden='true'></svg>", None),
        ("text/html", "<canvas></canvas>", "alt"),
        ("text/html", "<canvas>a line</canvas>", None),
        ("text/markdown", "![](data:image/png;base64,AA==)", "alt"),
        ("text/markdown", "![a line](data:image/png;base64,AA==)", None),
        ("image/svg+xml", "<svg></svg>", "alt"),
        ("text/html", "<pre>╭──── <b>Traceback</b> (most recent call last) ────╮\n│ 1 │\nKeyError: 1</pre>", "error"),
        ("text/html", "<pre>Traceback (most recent call last)</pre>", None),
    ],
)
def test_what_an_output_shows_is_looked_at(kind: str, data: str, problem: str | None) -> None:
    output = nbformat.v4.new_output("display_data", data={kind: data})
    cell = nbformat.v4.new_code_cell("1", execution_count=1, outputs=[output])
    found = audit(nbformat.v4.new_notebook(cells=[cell]), "", 90)
    assert [each.kind for each in found] == ([problem] if problem else [])


NUMBERS = st.floats() | st.integers() | st.booleans() | st.just(10**400)
ANYTHING = st.recursive(
    st.none() | NUMBERS | st.text(max_size=3),
    lambda inner: (
        st.lists(inner, max_size=2)
        | st.dictionaries(st.sampled_from(["claim", "value", "exercise", "passed", "text", "x"]), inner)
    ),
    max_leaves=8,
)


@given(st.lists(ANYTHING, max_size=3))
def test_what_is_no_measurement_is_a_problem_and_no_number(sent: list[object]) -> None:
    measured, problems = measurements([Record(MEASUREMENT, "1", data) for data in sent])
    assert sum(map(len, measured.values())) + len(problems) == len(sent)
    assert all(isinstance(value, float) and math.isfinite(value) for values in measured.values() for value in values)


@given(ANYTHING, st.booleans())
def test_what_is_no_verdict_solves_no_exercise(data: object, solved: bool) -> None:
    cells = [
        nbformat.v4.new_code_cell("answer = None", id="1", metadata={"tags": ["exercise"]}),
        nbformat.v4.new_code_cell("check()", id="2"),
    ]
    problems = exercise_problems(cells, [Record(VERDICT, "2", data)], solved)
    match data:
        case {"exercise": str(), "passed": bool(passed), "text": str()}:
            assert bool(problems) == (passed != solved)
        case _:
            assert problems


@pytest.mark.slow
@pytest.mark.parametrize("name", TRAPS)
def test_plain_papermill_passes_the_trap(tmp_path: Path, name: str) -> None:
    lesson = read_lesson(write_lesson(tmp_path, "01_trap", TITLE, *cells(name)))
    nbformat.write(lesson.instructor, tmp_path / "trap.ipynb")
    subprocess.run(
        [sys.executable, "-m", "papermill", "trap.ipynb", "out.ipynb"], cwd=tmp_path, check=True, capture_output=True
    )
