"""Test that a script under the watch runs as ``python script.py``, and that its report is made however it ends."""

import json
import os
import signal
import subprocess
import sys
import textwrap
from collections.abc import Callable
from pathlib import Path
from xml.etree import ElementTree

import pytest

PICKLED = """
class Kept: ...
def kept():
    return type(pickle.loads(pickle.dumps(Kept()))) is Kept and sys.modules["__main__"].Kept is Kept
"""

SCRIPTS = {
    "attributes": """
        '''A docstring.'''
        import __main__, inspect, pickle
        names = ["annotations", "builtins", "cached", "doc", "file", "name", "package", "spec"]
        print({name: vars(__main__)[f"__{name}__"] for name in names}, sorted(globals()))
        print(type(__loader__), __loader__.name, __loader__.path)
        print(sys.argv, sys.path[0], len(inspect.getsource(kept)), kept())
    """,
    "no exit status": "raise SystemExit",
    "an exit status": "print('said'); sys.exit(7)",
    "a negative exit status": "sys.exit(-1)",
    "an exit with a text": "sys.exit('gone')",
    "an exit with a tuple": "sys.exit((1, 2))",
    "an immediate exit": "print('lost'); print('kept', flush=True); os._exit(5)",
    "an exception": """
        def inner():
            {}["key"]
        try:
            inner()
        except KeyError as error:
            raise ValueError("later") from error
    """,
    "a group of exceptions": "raise ExceptionGroup('two', [ValueError(1), KeyError(2)])",
    "a syntax error": "x = = 1",
    "an interrupt": "raise KeyboardInterrupt",
    "a hook for exceptions": """
        sys.excepthook = lambda kind, error, trace: print("hook", kind, trace.tb_frame.f_code.co_name, trace.tb_lineno)
        1 / 0
    """,
    "a hook that fails": """
        def hook(kind, error, trace):
            raise ZeroDivisionError
        sys.excepthook = hook
        {}["key"]
    """,
    "SIGTERM": "print('said', flush=True); os.kill(os.getpid(), signal.SIGTERM); time.sleep(9)",
    "SIGHUP": "print('said', flush=True); os.kill(os.getpid(), signal.SIGHUP); time.sleep(9)",
    "a handler of its own": """
        def stop(number, frame):
            print("stopping", number)
            sys.exit(9)
        print(signal.getsignal(signal.SIGTERM), signal.signal(signal.SIGTERM, stop))
        os.kill(os.getpid(), signal.SIGTERM)
    """,
    "a handler that is taken back": """
        signal.signal(signal.SIGTERM, lambda *_: None)
        signal.signal(signal.SIGTERM, signal.SIG_DFL)
        print(signal.getsignal(signal.SIGTERM), flush=True)
        os.kill(os.getpid(), signal.SIGTERM)
        time.sleep(9)
    """,
    "a signal to a child": """
        child = os.fork()
        if not child:
            print("child", flush=True)
            time.sleep(20)
        time.sleep(0.2)
        os.kill(child, signal.SIGTERM)
        print(os.waitpid(child, 0)[1])
    """,
    "a child that leaves": """
        child = os.fork()
        if not child:
            os._exit(6)
        print(os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]))
    """,
    "a thread that goes on": """
        import pickle, threading
        def late():
            time.sleep(0.2)
            print("late", kept())
        threading.Thread(target=late).start()
        sys.exit(3)
    """,
    "a thread that fails": """
        import threading
        thread = threading.Thread(target=lambda: 1 / 0, name="failing")
        thread.start()
        thread.join()
    """,
    "threads of a pool that nobody shuts down": """
        from concurrent.futures import ThreadPoolExecutor
        pool = ThreadPoolExecutor(2)
        print(pool.submit(kept).result())
    """,
    "closed output": "sys.stdout.close()",
    "another program": "print('before', flush=True); os.execv('/bin/echo', ['echo', 'after'])",
}


def written(folder: Path, body: str) -> Path:
    folder.mkdir(exist_ok=True)
    path = folder / "script.py"
    path.write_text("import os, pickle, signal, sys, time\n" + PICKLED + textwrap.dedent(body))
    return path


@pytest.fixture
def watched(server: subprocess.Popen[str], tmp_path: Path) -> Callable[..., tuple[int, str]]:
    """Return a function that runs a command of the watch, and returns its exit status and what it printed."""

    def run(*arguments: object, ends_whole: bool = False) -> tuple[int, str]:
        assert server.stdin is not None and server.stdout is not None
        printed = tmp_path / "printed"
        server.stdin.write(json.dumps([[*map(str, arguments)], str(printed), ends_whole]) + "\n")
        server.stdin.flush()
        return int(server.stdout.readline()), printed.read_text()

    return run


@pytest.mark.parametrize("name", SCRIPTS)
def test_a_script_does_and_prints_what_it_does_without_a_watch(
    name: str, watched: Callable[..., tuple[int, str]], tmp_path: Path
) -> None:
    path = written(tmp_path, SCRIPTS[name])
    arguments = ["a", "--json", "--", "-m"]
    alone = subprocess.run(
        [sys.executable, str(path), *arguments],
        check=False,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
    )
    command = ("--fail-on", "never", "--json", tmp_path / "report.json", path, *arguments)
    status, printed = watched(*command, ends_whole=True)
    before, title, _ = printed.partition("covlab.watch: ")
    own = before if name != "another program" else before + printed.splitlines()[-1] + "\n"
    assert sorted(own.splitlines()) == sorted(alone.stdout.splitlines())
    assert status == alone.returncode
    assert title and json.loads((tmp_path / "report.json").read_text())["findings"][0]["code"] == "W00"


TRAINING = """
import torch
from torch import nn
torch.manual_seed(0)
model = nn.Linear(8, 1)
optimizer = torch.optim.SGD(model.parameters(), 0.01)
def train(steps=20):
    for number in range(steps):
        optimizer.zero_grad()
        model(torch.randn(4, 8)).square().mean().backward()
        optimizer.step()
"""

WARNED = """
import warnings
import torch
from torch import nn
class Model(nn.Module):
    def __init__(self):
        super().__init__()
        self.weight = nn.Parameter(torch.ones(2))
    def forward(self, x):
        for level in range(1, 5):
            warnings.warn(f"level {level}", stacklevel=level)
        return (x * self.weight).sum()
model = Model()
optimizer = torch.optim.SGD(model.parameters(), lr=0.1)
schedule = torch.optim.lr_scheduler.StepLR(optimizer, 1)
schedule.step()
model(torch.ones(2)).backward(create_graph=True)
optimizer.step()
schedule.step(3)
nn.MSELoss()(torch.ones(2), torch.ones(2, 1))
def closure():
    warnings.warn("closure", stacklevel=2)
    loss = model(torch.ones(2))
    loss.backward()
    return loss
optimizer.step(closure)
def failing(gradient):
    raise ValueError("in a hook")
model.weight.register_hook(failing)
model(torch.ones(2)).backward()
"""


def test_warnings_and_tracebacks_name_the_lines_that_they_name_without_a_watch(
    watched: Callable[..., tuple[int, str]], tmp_path: Path
) -> None:
    path = tmp_path / "script.py"
    path.write_text(WARNED)
    alone = subprocess.run([sys.executable, str(path)], check=False, stderr=subprocess.PIPE, text=True)
    status, printed = watched(path, ends_whole=True)
    assert printed.partition("covlab.watch: ")[0].splitlines() == alone.stderr.splitlines()
    assert status == alone.returncode == 1


@pytest.mark.parametrize("end", ["os._exit(0)", "os.kill(os.getpid(), signal.SIGTERM)", "sys.exit()"])
def test_every_file_is_written_however_the_training_ends(
    end: str, watched: Callable[..., tuple[int, str]], tmp_path: Path
) -> None:
    path = written(tmp_path, f"{TRAINING}train()\n{end}\ntime.sleep(9)")
    files = [word for name in ("json", "junit", "ledger") for word in (f"--{name}", tmp_path / f"report.{name}")]
    status, printed = watched(*files, path, ends_whole=True)
    assert status == (-signal.SIGTERM if "SIGTERM" in end else 0)
    assert "nothing found; watched 20 steps of 1 optimizer, 20 backwards, 20 forwards of 1 model" in " ".join(
        printed.split()
    )
    assert json.loads((tmp_path / "report.json").read_text())["seen"]["steps"] == 20
    assert ElementTree.parse(tmp_path / "report.junit").getroot().get("failures") == "0"
    assert len((tmp_path / "report.ledger").read_text().splitlines()) == 20


BLIND = {
    "nothing": ("pass", "no training was seen"),
    "an evaluation": (f"{TRAINING}model(torch.ones(1, 8))", "no backward and no optimizer step"),
    "no optimizer": (
        f"{TRAINING}del optimizer\nfor _ in range(9): model(torch.ones(1, 8)).sum().backward()",
        "optimizer",
    ),
    "by hand": (
        f"""{TRAINING}
for _ in range(20):
    model(torch.randn(4, 8)).square().mean().backward()
    for one in model.parameters():
        one.data -= 0.01 * one.grad
        one.grad = None""",
        "updates them by hand",
    ),
    "no forward": (
        """
import torch
weight = torch.ones(8, requires_grad=True)
optimizer = torch.optim.SGD([weight], 0.01)
for _ in range(20):
    optimizer.zero_grad()
    weight.square().sum().backward()
    optimizer.step()""",
        "no call of a model",
    ),
    "no backward": (
        f"""{TRAINING}
for _ in range(20):
    loss = model(torch.randn(4, 8)).square().mean()
    for one, gradient in zip(model.parameters(), torch.autograd.grad(loss, list(model.parameters()))):
        one.grad = gradient
    optimizer.step()""",
        "no backward",
    ),
    "a fork": (
        f"""{TRAINING}
import multiprocessing
process = multiprocessing.get_context("fork").Process(target=train)
process.start()
process.join()""",
        "1 other process, such as train()",
    ),
    "a command": (
        "import subprocess; subprocess.run([sys.executable, '-c', 'pass'])",
        "1 other process, such as python",
    ),
    "a shell": ("os.system(f'\"{sys.executable}\" -c pass')", "1 other process, such as python"),
}


@pytest.mark.parametrize("name", BLIND)
def test_what_was_not_seen_is_the_headline_a_note_and_an_exit_status(
    name: str, watched: Callable[..., tuple[int, str]], tmp_path: Path
) -> None:
    body, words = BLIND[name]
    path, files = written(tmp_path, body), ("--json", tmp_path / "report.json", "--junit", tmp_path / "junit.xml")
    status, printed = watched(*files, path)
    report = json.loads((tmp_path / "report.json").read_text())
    [note] = report["findings"]
    assert (note["code"], note["verdict"], status) == ("W00", "note", 3)
    assert words in note["says"] and note["fix"]
    headline = note["says"].partition(":")[0]
    assert " ".join(printed.split()).startswith(f"covlab.watch: {headline}"), printed
    assert "nothing found" not in printed
    suite = ElementTree.parse(tmp_path / "junit.xml").getroot()
    [failure] = suite.iter("failure")
    assert failure.get("type") == "note" and suite[0].get("name") == "W00 the watch sees the training"
    if name in ("no forward", "nothing", "a fork"):
        assert {"W07", "W08", "W11", "W17"} <= set(report["unchecked"])
    assert watched("--fail-on", "never", path)[0] == 0
    assert watched("--fail-on", "unseen", path)[0] == 3


def test_a_fault_that_explains_why_nothing_was_stepped_stands_above_the_note(
    watched: Callable[..., tuple[int, str]], tmp_path: Path
) -> None:
    path = written(tmp_path, f"{TRAINING}optimizer.step = lambda: None\ntrain()")
    status, printed = watched("--json", tmp_path / "report.json", path)
    [fault] = json.loads((tmp_path / "report.json").read_text())["findings"]
    assert (fault["verdict"], status) == ("fault", 1)
    assert [one["code"] for one in fault["follows"]] == ["W00"]
    assert printed.startswith("covlab.watch: 20 backwards and no optimizer step; 1 fault")


QUIET = {
    "workers of a data loader": f"""
{TRAINING}
from torch.utils.data import DataLoader
for x in DataLoader(torch.randn(8, 8), num_workers=1, multiprocessing_context="fork"):
    pass""",
    "another program": "import subprocess; subprocess.run(['true'])",
}


@pytest.mark.parametrize("name", QUIET)
def test_processes_that_cannot_train_are_not_named(
    name: str, watched: Callable[..., tuple[int, str]], tmp_path: Path
) -> None:
    _, printed = watched(written(tmp_path, QUIET[name]))
    assert "no training was seen" in printed and "other process" not in printed


THREADS = {
    "one": "thread = threading.Thread(target=train); thread.start()",
    "one after another": """
for _ in range(2):
    thread = threading.Thread(target=train)
    thread.start()
    thread.join()
""",
    "of a pool": "from concurrent.futures import ThreadPoolExecutor\nThreadPoolExecutor(1).submit(train)",
}


@pytest.mark.parametrize("name", THREADS)
def test_the_training_is_seen_in_a_thread_and_ends_after_the_steps(
    name: str, watched: Callable[..., tuple[int, str]], tmp_path: Path
) -> None:
    path = written(tmp_path, f"import threading\n{TRAINING}{THREADS[name]}")
    _, printed = watched(path)
    assert "nothing found" in printed and f"watched {40 if 'after' in name else 20} steps" in printed
    endless = path.read_text().replace("steps=20", "steps=10 ** 6")
    path.write_text(endless + "\nthread.join() if 'thread' in globals() else None\ntime.sleep(0.5)\nprint('went on')")
    status, printed = watched("--steps", 5, path)
    assert "watched 5 steps" in printed and "Traceback" not in printed and status == 0
    assert "went on" not in printed or "pool" in name


REFUSED = {
    "an unknown option": (["--nothing"], "--nothing"),
    "no script": ([], "script to run must be named"),
    "no number": (["--steps", "many", "SCRIPT"], "--steps"),
    "a part of an option": (["--step", "3", "SCRIPT"], "--step"),
    "no file": (["nowhere.py"], "no such file: 'nowhere.py'"),
    **{
        f"no folder for {option}": ([option, "FOLDER/nowhere/report", "SCRIPT"], "no such folder: FOLDER/nowhere")
        for option in ("--json", "--junit", "--ledger")
    },
    "a folder as a report": (["--junit", "FOLDER", "SCRIPT"], "must be a file that can be written, got FOLDER"),
    "the script as a report": (["--json", "SCRIPT", "SCRIPT"], "would overwrite the script"),
    "one file for two reports": (["--json", "FOLDER/a", "--ledger", "FOLDER/a", "SCRIPT"], "name the same file"),
    "a baseline of a part of a run": (
        ["--write-baseline", "FOLDER/known", "--stop-on", "fault", "SCRIPT"],
        "--write-baseline writes what a whole run finds",
    ),
    "a module that does not exist": (["-m", "wrong_name"], "No module named wrong_name"),
    "a module of a package that does not exist": (["-m", "wrong.name"], "No module named wrong"),
    "a file as a module": (["-m", "SCRIPT"], "needs no -m"),
    "no name of a module": (["-m", ""], "No module named"),
    "a package without a main module": (["-m", "json"], "'json' is a package and cannot be directly executed"),
    "no module of a package": (["-m", "json.wrong_name"], "No module named json.wrong_name"),
    "a folder without a main file": (["FOLDER"], "a folder with a file __main__.py; no such file: "),
}


@pytest.mark.parametrize("name", REFUSED)
def test_what_cannot_work_is_refused_in_one_line_before_the_script_runs(
    name: str, watched: Callable[..., tuple[int, str]], tmp_path: Path
) -> None:
    path = written(tmp_path / "here", "print('ran')")

    def filled(text: str) -> str:
        return text.replace("SCRIPT", str(path)).replace("FOLDER", str(path.parent))

    arguments, words = REFUSED[name]
    status, printed = watched(*map(filled, arguments))
    [line] = printed.splitlines()
    assert status == 2 and filled(words) in line
    assert [file.name for file in path.parent.iterdir()] == ["script.py"]


def test_what_cannot_start_makes_no_report_and_leaves_files_alone(
    watched: Callable[..., tuple[int, str]], tmp_path: Path
) -> None:
    files = [tmp_path / name for name in ("ledger", "json", "junit", "sarif", "html", "write-baseline")]
    for file in files:
        file.write_text("kept")
    status, printed = watched(*(word for file in files for word in (f"--{file.name}", file)), "-m", "wrong_name")
    assert status == 2 and len(printed.splitlines()) == 1
    assert {file.read_text() for file in files} == {"kept"}
    (tmp_path / "main.zip").write_bytes(b"PK\x05\x06" + bytes(18))  # an archive of nothing
    status, printed = watched("--json", tmp_path / "json", tmp_path / "main.zip")
    assert status == 2 and "can't find '__main__' module" in printed and len(printed.splitlines()) == 1
    assert (tmp_path / "json").read_text() == "kept"


def test_a_fault_that_becomes_known_is_not_told(watched: Callable[..., tuple[int, str]], tmp_path: Path) -> None:
    path = written(tmp_path, f"{TRAINING.replace('optimizer.zero_grad()', 'pass')}train(60)")
    told = "covlab.watch: fault after 20 steps"
    assert told in watched(path)[1]
    status, printed = watched("--write-baseline", tmp_path / "known.json", path)
    assert status == 0 and told not in printed and "known, not counted: W18" in printed


def test_a_run_that_an_exception_ends_is_told_so(watched: Callable[..., tuple[int, str]], tmp_path: Path) -> None:
    path = written(tmp_path, f"{TRAINING}train()\nmodel(torch.randn(4, 8)).sum().backward()\n1 / 0")
    status, printed = watched(path)
    assert status == 1 and "ended by ZeroDivisionError" in printed and "W03" not in printed
    path.write_text(path.read_text().replace("1 / 0", "sys.exit()"))
    assert "ended" not in watched(path)[1]


@pytest.mark.skipif(not Path("/dev/full").exists(), reason="there is no /dev/full")
def test_a_ledger_that_cannot_be_written_is_named(watched: Callable[..., tuple[int, str]], tmp_path: Path) -> None:
    status, printed = watched("--ledger", "/dev/full", written(tmp_path, f"{TRAINING}train(60)"))
    assert status == 2 and "/dev/full was not written: No space left" in printed and "nothing found" in printed


@pytest.mark.parametrize("names", [("RANK", "WORLD_SIZE"), ("SLURM_PROCID", "SLURM_NTASKS")])
def test_a_job_prints_one_report_and_every_rank_writes_its_own_files(names: tuple[str, str], tmp_path: Path) -> None:
    rank = f"os.environ[{names[0]!r}]"  # each waits for the other, as in a collective
    path = written(
        tmp_path,
        f"""
        from pathlib import Path
        here = Path(__file__).parent
        (here / {rank}).touch()
        while not (here / "0").exists() or not (here / "1").exists():
            time.sleep(0.05)
        """,
    )
    command = [sys.executable, "-m", "covlab.watch", "--json", str(tmp_path / "report.json"), str(path)]
    ranks = [
        subprocess.Popen(
            command, stderr=subprocess.PIPE, text=True, env=os.environ | dict(zip(names, (number, "2"), strict=True))
        )
        for number in "01"
    ]
    printed = [rank.communicate()[1] for rank in ranks]
    assert [rank.returncode for rank in ranks] == [3, 0]
    assert "covlab.watch, both ranks: no training" in printed[0] and "(on both ranks)" not in printed[0]
    assert "NOTE    W00" in printed[0] and "on both ranks\n" in printed[0] and not printed[1]
    assert sorted(file.name for file in tmp_path.glob("*.json")) == ["report.json", "report.rank1.json"]


@pytest.mark.slow
@pytest.mark.parametrize("module", ["covlab.watch", "covlab watch"])
def test_main_is_the_scripts_until_the_interpreter_ends(module: str, tmp_path: Path) -> None:
    body = "import atexit\natexit.register(lambda: print('at exit', kept(), __name__))\nraise KeyboardInterrupt"
    path = written(tmp_path, body)
    command = [sys.executable, "-m", *module.split(), str(path)]
    ran = subprocess.run(command, check=False, capture_output=True, text=True)
    assert (ran.returncode, ran.stdout) == (-signal.SIGINT, "at exit True __main__\n")
    assert "Traceback" in ran.stderr and "no training was seen" in ran.stderr


@pytest.mark.slow
def test_nobody_who_reads_the_output_is_needed(tmp_path: Path) -> None:
    path = written(tmp_path, "[print('x' * 1000) for _ in range(1000)]")
    command = f"{sys.executable} -m covlab.watch --json {tmp_path}/report.json {path} 2>&1 | head -c 1"
    subprocess.run(command, shell=True, check=True, stdout=subprocess.DEVNULL)
    assert json.loads((tmp_path / "report.json").read_text())["findings"]
