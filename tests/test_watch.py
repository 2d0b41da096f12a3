"""Test that a watch changes nothing, keeps nothing alive, never waits, and survives its errors; and the command."""

import gc
import importlib
import json
import math
import subprocess
import sys
import textwrap
import types
import weakref
from collections.abc import Callable
from pathlib import Path
from typing import Any, get_args
from xml.etree import ElementTree

import pytest
import torch
import torch.nn.functional as F
from small_training import batches, network, run_loop
from torch import nn
from torch.optim.optimizer import _global_optimizer_post_hooks, _global_optimizer_pre_hooks

import covlab.watch.invariants
from covlab.training.operations import Operations
from covlab.watch import TITLES, watch
from covlab.watch.__main__ import parse
from covlab.watch.invariants import INVARIANTS
from covlab.watch.invariants.framework_advice import Action, framework_advice
from covlab.watch.invariants.w04_parameters_move import ParametersMove
from covlab.watch.invariants.w07_every_parameter_gets_gradient import FIX_CHECKPOINT
from covlab.watch.seen import graph, location, measurements
from covlab.watch.seen.deferred import DeferredNumber
from covlab.watch.seen.events import Step
from covlab.watch.seen.fingerprints import Fingerprints
from covlab.watch.seen.location import CodeLocation, LibraryLine


def patched() -> list[Any]:
    """Return everything that a watch replaces, in its current state."""
    scheduler, scaler = torch.optim.lr_scheduler, torch.amp.GradScaler
    places = [
        (nn.Module, "__call__"),
        (nn.Module, "zero_grad"),
        (torch.autograd, "backward"),
        (torch.optim.Optimizer, "__init__"),
        (torch.optim.Optimizer, "zero_grad"),
        (torch.nn.utils, "clip_grad_norm_"),
        (torch, "nan_to_num"),
        (torch.Tensor, "nan_to_num_"),
        (scaler, "scale"),
        (scaler, "step"),
        (scaler, "update"),
        (scaler, "unscale_"),
        (scheduler.LRScheduler, "step"),
        (scheduler.SequentialLR, "step"),
    ]
    return [getattr(owner, name) for owner, name in places] + [
        len(kept) for kept in (_global_optimizer_pre_hooks, _global_optimizer_post_hooks)
    ]


def one_step(model: nn.Module, optimizer: torch.optim.Optimizer, x: torch.Tensor, y: torch.Tensor) -> None:
    optimizer.zero_grad()
    F.cross_entropy(model(x), y).backward()
    optimizer.step()


def test_everything_is_put_back_also_after_an_exception() -> None:
    before = patched()
    model = network()
    with pytest.raises(ZeroDivisionError), watch(model):
        assert all(one is not other for one, other in zip(patched()[:-2], before[:-2], strict=True))
        one_step(model, torch.optim.SGD(model.parameters(), lr=0.1), *batches(1)[0])
        1 / 0  # noqa: B018
    assert patched() == before
    assert not any(parameter._post_accumulate_grad_hooks for parameter in model.parameters())


def test_one_watch_at_a_time_and_only_of_models_and_optimizers() -> None:
    with pytest.raises(TypeError, match="got int"):
        watch(3)
    with pytest.raises(ValueError, match="steps must be"):
        watch(steps=0)
    with watch(), pytest.raises(RuntimeError, match="one at a time"), watch():
        pass


def test_no_graph_input_or_model_is_kept_alive() -> None:
    kept: list[weakref.ref[Any]] = []

    def loop() -> None:
        model = network()
        optimizer = torch.optim.SGD(model.parameters(), lr=0.1)
        for x, y in batches(6):
            out = model(x)
            loss = F.cross_entropy(out, y)
            kept.extend(weakref.ref(tensor) for tensor in (x, out, loss))
            optimizer.zero_grad()
            loss.backward()
            optimizer.step()
        kept.append(weakref.ref(model))

    with watch():
        loop()
        gc.collect()
        assert len(kept) == 19
        assert all(reference() is None for reference in kept)


def test_memory_is_bounded() -> None:
    model = nn.Linear(8, 4)
    optimizer = torch.optim.SGD(model.parameters(), lr=0.01)
    x, y = batches(1)[0]
    with watch(model, optimizer) as w:
        sizes = []
        for _ in range(3):
            for _ in range(64):
                one_step(model, optimizer, x, y)
            recorder = w.observer.recorder
            sizes.append((len(recorder.reads), len(recorder.events), len(w.observation.forwards)))
    assert sizes[0] == sizes[1] == sizes[2]
    assert max(sizes[0]) < 600


@pytest.mark.parametrize("rate", [0.01, 0.0])
def test_memory_does_not_grow_with_the_steps(rate: float, monkeypatch: pytest.MonkeyPatch) -> None:
    """Nothing is kept of a step, whether the parameters move or not."""
    monkeypatch.setattr("covlab.watch.session.ROWS_KEPT", 32)
    monkeypatch.setattr("covlab.watch.invariants.w14_logged_loss.STEPS_KEPT", 32)
    model = nn.Linear(8, 4)
    optimizer = torch.optim.SGD(model.parameters(), lr=rate)
    schedule = torch.optim.lr_scheduler.LambdaLR(optimizer, lambda step: 1.0)
    x, y = batches(1)[0]
    alive = []
    with watch(model, optimizer) as w:
        for _ in range(3):
            for _ in range(96):
                one_step(model, optimizer, x, y)
                schedule.step()
            gc.collect()
            alive.append(sum(type(thing) is Step for thing in gc.get_objects()))
    assert w.observation.counts["steps"] == 288
    assert alive[0] == alive[1] == alive[2]


def weight(root: object) -> int:
    """Return the bytes of everything that can be reached, without the contents of tensors and modules."""
    seen, waiting, total = set(), [root], 0
    while waiting:
        thing = waiting.pop()
        if id(thing) not in seen and not isinstance(thing, CODE):
            seen.add(id(thing))
            total += sys.getsizeof(thing)
            waiting += [] if isinstance(thing, torch.Tensor | nn.Module) else gc.get_referents(thing)
    return total


CODE = (type, types.ModuleType, types.FunctionType, types.CodeType, types.MethodType, types.BuiltinFunctionType)


def cleared(model: nn.Module, optimizer: torch.optim.Optimizer, number: int, loss: torch.Tensor) -> None:
    loss.backward()
    optimizer.zero_grad()


def not_finite(model: nn.Module, optimizer: torch.optim.Optimizer, number: int, loss: torch.Tensor) -> None:
    (loss * math.nan).backward()
    optimizer.step()


def skipped(model: nn.Module, optimizer: torch.optim.Optimizer, number: int, loss: torch.Tensor) -> None:
    if number % 4 == 0:
        (loss * math.inf).backward()
        optimizer.zero_grad()


def carried(model: nn.Module, optimizer: torch.optim.Optimizer, number: int, loss: torch.Tensor) -> None:
    loss.backward()
    if number % 3 == 0:
        optimizer.step()


def last_alone(model: nn.Module, optimizer: torch.optim.Optimizer, number: int, loss: torch.Tensor) -> None:
    if number % 4 == 0:
        loss.backward()
        optimizer.step()
        optimizer.zero_grad()


def by_hand(model: nn.Module, optimizer: torch.optim.Optimizer, number: int, loss: torch.Tensor) -> None:
    for parameter, gradient in zip(
        model.parameters(), torch.autograd.grad(loss, list(model.parameters())), strict=True
    ):
        parameter.data.sub_(gradient, alpha=1e-3)


def backward_by_hand(model: nn.Module, optimizer: torch.optim.Optimizer, number: int, loss: torch.Tensor) -> None:
    loss.backward()
    for parameter in model.parameters():
        assert parameter.grad is not None
        parameter.data.sub_(parameter.grad, alpha=1e-3)
        parameter.grad = None


def evaluated(model: nn.Module, optimizer: torch.optim.Optimizer, number: int, loss: torch.Tensor) -> None:
    with torch.no_grad():
        model(torch.ones(1, 8))


def an_optimizer_each(model: nn.Module, optimizer: torch.optim.Optimizer, number: int, loss: torch.Tensor) -> None:
    optimizer = torch.optim.SGD(model.parameters(), lr=1e-3)
    loss.backward()
    optimizer.step()
    optimizer.zero_grad()


@pytest.mark.parametrize(
    "body", [cleared, not_finite, skipped, carried, last_alone, by_hand, backward_by_hand, evaluated, an_optimizer_each]
)
def test_memory_does_not_grow_with_the_length_of_a_run(
    body: Callable[[nn.Module, torch.optim.Optimizer, int, torch.Tensor], None], monkeypatch: pytest.MonkeyPatch
) -> None:
    for name, most in {
        "session.ROWS_KEPT": 8,
        "invariants.w14_logged_loss.STEPS_KEPT": 8,
        "invariants.bounded_memory.VALUES_KEPT": 8,
        "seen.recorder.NUMBERS_WAITING": 64,
        "seen.observation.FORWARDS_KEPT": 64,
        "invariants.bounded_memory.KEYS_KEPT": 8,
        "seen.fingerprints.SAMPLES_KEPT": 64,
        "seen.fingerprints.BATCHES_KEPT": 64,
    }.items():
        monkeypatch.setattr(f"covlab.watch.{name}", most)
    model = network(dropout=0.1)
    optimizer = torch.optim.SGD(model.parameters(), lr=1e-3)
    x, y = batches(1)[0]
    sizes = []
    with watch(model, optimizer) as w:
        for round in range(4):
            for number in range(1, 193):
                body(model, optimizer, number, F.cross_entropy(model(x), y))
            w.observer.recorder.flush()
            if round >= 2:  # what has a limit has reached it
                gc.collect()
                sizes.append(weight([w.observer, w.invariants, w.rows]))
    assert abs(sizes[1] - sizes[0]) <= 0.01 * sizes[0], sizes


@pytest.mark.parametrize("light", [False, True])
def test_no_micro_batch_waits_for_the_device(light: bool) -> None:
    model = network()
    optimizer = torch.optim.SGD(model.parameters(), lr=0.01)
    scaler = torch.amp.GradScaler("cpu", init_scale=8.0, enabled=False)

    def loop() -> int:
        with Operations() as operations:
            for number, (x, y) in enumerate(batches(40), 1):
                scaler.scale(F.cross_entropy(model(x), y) / 4).backward()
                if number % 4 == 0:
                    torch.nn.utils.clip_grad_norm_(model.parameters(), 1.0)
                    scaler.step(optimizer)
                    scaler.update()
                    optimizer.zero_grad()
        return operations.waits

    alone = loop()
    with watch(model, optimizer, light=light) as w:
        seen = loop()
        invariants: list[Any] = w.invariants
        # no number has been read so far
        assert not any(invariant.steps for invariant in invariants if invariant.code == "W02")
    assert seen == alone


def test_the_watch_does_not_see_its_own_calls(monkeypatch: pytest.MonkeyPatch) -> None:
    """It measures gradients with functions that it also observes, and its results may lie where gradients lay."""

    def size(gradient: torch.Tensor | None) -> torch.Tensor:
        return torch.zeros(()) if gradient is None else gradient.nan_to_num().abs().amax()

    monkeypatch.setattr("covlab.watch.seen.tensor_histories._size", size)
    model = network()
    optimizer = torch.optim.SGD(model.parameters(), lr=0.1)
    with watch(model, optimizer) as w:
        for x, y in batches(12):
            one_step(model, optimizer, x, y)
    assert w.report().of("W15") is None


def test_an_error_of_ours_disables_one_invariant_and_nothing_else(monkeypatch: pytest.MonkeyPatch) -> None:
    def fail(self: object, step: object) -> None:
        raise RuntimeError("broken on purpose")

    monkeypatch.setattr(ParametersMove, "on_step", fail)
    monkeypatch.setattr(Fingerprints, "see_training", fail)
    with watch() as w:
        watched = run_loop("correct_accumulation")["model"]
    report = w.report()
    assert "broken on purpose" in report.unchecked["W04"]
    assert "TypeError" in report.unchecked["W16"]
    assert "W02" not in report.unchecked
    for one, other in zip(run_loop("correct_accumulation")["model"].parameters(), watched.parameters(), strict=True):
        assert torch.equal(one, other)


def test_an_error_in_a_hook_reaches_no_loop(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(graph, "read_loss_terms", lambda *_: 1 / 0)
    monkeypatch.setattr(measurements, "gradient_size", lambda *_: 1 / 0)
    with watch() as w:
        run_loop("correct_accumulation")
    assert "ZeroDivisionError" in w.report().unchecked["W01"]


@pytest.mark.parametrize("in_step_branch", [True, False])
def test_a_mean_that_counts_only_the_last_micro_batches_is_not_the_loss_that_was_seen(in_step_branch: bool) -> None:
    with watch() as w:
        model = network()
        optimizer = torch.optim.AdamW(model.parameters(), lr=1e-2)
        for _ in range(3):
            running, data = 0.0, batches(16)
            for number, (x, y) in enumerate(data, 1):
                loss = F.cross_entropy(model(x), y)
                (loss / 4).backward()
                if number % 4 == 0 or not in_step_branch:
                    running += loss.item()
                if number % 4 == 0:
                    optimizer.step()
                    optimizer.zero_grad()
            w.log(running / len(data))
    found = [(finding.code, finding.verdict) for finding in w.report().findings]
    assert found == ([("W14", "fault")] if in_step_branch else [])


def test_a_logged_loss_that_is_right_gets_no_finding() -> None:
    model = network()
    optimizer = torch.optim.SGD(model.parameters(), lr=0.05)
    with watch() as w:
        for _ in range(3):
            losses = []
            for number, (x, y) in enumerate(batches(8), 1):
                loss = F.cross_entropy(model(x), y)
                (loss / 4).backward()
                losses.append(loss.item())
                if number % 4 == 0:
                    optimizer.step()
                    optimizer.zero_grad()
            w.log(sum(losses) / len(losses))
    report = w.report()
    assert report.of("W14") is None
    assert "W14" not in report.unchecked


def test_windows_that_are_cleared_without_a_step_are_counted_from_one() -> None:
    model = network()
    optimizer = torch.optim.SGD(model.parameters(), 0.1)
    with watch(model, optimizer) as w:
        for x, y in batches(15):
            (F.cross_entropy(model(x), y) * math.nan).backward()
            optimizer.zero_grad()
    finding = w.report().of("W02")
    assert finding is not None
    assert (finding.times, finding.first, finding.last, finding.when) == (15, 1, 1, "15 times, step 1")


def test_a_disabled_scaler_is_named_as_the_reason() -> None:
    model = network()
    optimizer = torch.optim.SGD(model.parameters(), lr=0.05)
    scaler = torch.amp.GradScaler("cpu", enabled=False)
    with watch() as w:
        for x, y in batches(4):
            optimizer.zero_grad()
            scaler.scale(F.cross_entropy(model(x), y)).backward()
            scaler.step(optimizer)
            scaler.update()
    assert "disabled" in w.report().unchecked["W06"]


def test_where_nothing_was_trained_nothing_was_checked() -> None:
    with watch() as w:
        torch.zeros(3).sum()
    assert set(w.report().unchecked) == set(TITLES)


LIBRARY = """
def fit(loss, optimizer):
    loss().backward()
    optimizer.step()
    loss().backward()
    optimizer.step()
"""


@pytest.fixture
def library(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> types.ModuleType:
    """An installed library that makes several calls for one call of its user's."""
    folder = tmp_path / "site-packages" / "fitting"
    folder.mkdir(parents=True)
    (folder / "__init__.py").write_text(LIBRARY)
    monkeypatch.syspath_prepend(folder.parent)
    return importlib.import_module("fitting")


def test_one_line_of_the_user_is_told_apart_by_the_lines_of_the_library_it_calls(library: types.ModuleType) -> None:
    model = network()
    optimizer = torch.optim.SGD(model.parameters(), lr=0.1)
    x, y = batches(1)[0]
    lines: list[CodeLocation | None] = []
    with watch(model, optimizer) as w:
        w.observer.recorder.receive = lambda event: lines.extend([event.backwards[-1].location, event.location])
        library.fit(lambda: F.cross_entropy(model(x), y), optimizer)
        one_step(model, optimizer, x, y)
    fitted, own = [line for line in lines[:4] if line], [line for line in lines[4:] if line]
    assert {line.code for line in fitted} == {"library.fit(lambda: F.cross_entropy(model(x), y), optimizer)"}
    assert [line.library and line.library[:2] for line in fitted] == [("fitting", number) for number in range(3, 7)]
    assert len(set(fitted)) == 4
    assert [line.library for line in own] == [None, None]


def test_a_library_whose_name_begins_with_torch_is_not_torch() -> None:
    torch_itself = Path(torch.__file__).parent
    assert location._owner(str(torch_itself / "nn" / "modules" / "module.py")) == "internal"
    assert location._owner(str(torch_itself.with_name("torchvision") / "models.py")) == "library"


def test_consequences_are_folded_under_their_cause() -> None:
    with watch() as w:
        run_loop("textbook_stale_optimizer_faulty")
    report = w.report()
    assert [finding.code for finding in report.findings] == ["W08"]


def test_a_report_reads_in_a_terminal_a_notebook_and_a_program(tmp_path: Path) -> None:
    with watch(ledger=tmp_path / "ledger.jsonl") as w:
        run_loop("textbook_missing_division_faulty")
    report = w.report()
    for text in (str(report), report._repr_html_()):
        assert "W01" in text
        assert "division by the accumulation count is missing" in " ".join(text.split())
        assert "textbook_missing_division_faulty.py" in text
        assert "not checked" in text
    rows = [json.loads(line) for line in (tmp_path / "ledger.jsonl").read_text().splitlines()]
    assert [row["weights"] for row in rows] == [[1.0] * 4] * 12
    assert all(row["ran"] and row["moved"] and row["micro_batches"] == 4 for row in rows)
    report.write_junit(tmp_path / "junit.xml")
    suite = ElementTree.parse(tmp_path / "junit.xml").getroot()
    assert (suite.get("tests"), suite.get("failures"), suite.get("skipped")) == (
        str(len(TITLES) + 1),  # and W00
        "1",
        str(len(report.unchecked)),
    )
    report.write_json(tmp_path / "report.json")
    line = report.findings[0].location
    assert line is not None
    assert json.loads((tmp_path / "report.json").read_text())["findings"][0]["site"]["line"] == line.line


def test_an_invariant_is_one_file_that_is_named_by_its_code() -> None:
    files = sorted(path.name for path in Path(covlab.watch.invariants.__file__).parent.glob("w*_*.py"))
    assert [invariant.code for invariant in INVARIANTS] == [name[:3].upper() for name in files] == list(TITLES)
    assert [invariant.__module__.rpartition(".")[2] for invariant in INVARIANTS] == [name[:-3] for name in files]
    assert len({invariant.rank for invariant in INVARIANTS}) == len(INVARIANTS)
    assert {code for invariant in INVARIANTS for code in invariant.consequences} <= set(TITLES)


def test_a_number_that_was_never_brought_in_is_no_number() -> None:
    assert DeferredNumber().value is None


SCRIPT = """
    import sys
    import torch
    from beside import DATA
    print(__name__, sys.argv[1:], DATA)
    model = torch.nn.Linear(8, 1)
    optimizer = torch.optim.SGD(model.parameters(), lr=0.01)
    for number in range(1, 41):
        loss = model(torch.randn(4, 8)).square().mean()
        (loss / DIVISOR).backward()
        if number % 4 == 0:
            optimizer.step()
            optimizer.zero_grad()
            print("step", number // 4)
    END
"""


@pytest.fixture
def script(tmp_path: Path) -> Callable[..., Path]:
    def write(divisor: int = 4, end: str = "pass") -> Path:
        (tmp_path / "beside.py").write_text("DATA = 'found'")
        path = tmp_path / "train.py"
        path.write_text(textwrap.dedent(SCRIPT).replace("DIVISOR", str(divisor)).replace("END", end))
        return path

    return write


def command(
    *arguments: object, cwd: Path | None = None, module: str = "covlab.watch"
) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [sys.executable, "-m", *module.split(), *map(str, arguments)],
        check=False,
        capture_output=True,
        text=True,
        cwd=cwd,
    )


@pytest.mark.parametrize("module", ["covlab.watch", "covlab watch"])
def test_a_script_runs_as_python_would_run_it(script: Callable[..., Path], module: str) -> None:
    ran = command("--fail-on", "warning", script(), "--their", "-m", "arguments", module=module)
    assert ran.returncode == 0, ran.stderr
    assert ran.stdout.splitlines()[0] == "__main__ ['--their', '-m', 'arguments'] found"
    assert "nothing found" in ran.stderr


def test_a_fault_fails_the_run_and_steps_make_a_smoke_test_of_it(script: Callable[..., Path], tmp_path: Path) -> None:
    path = script(divisor=1)
    ran = command("--steps", 3, "--junit", tmp_path / "junit.xml", path)
    assert ran.returncode == 1
    assert ran.stdout.splitlines()[-1] == "step 2"
    assert "4.00 = your 4 micro-batches" in ran.stderr
    assert "train.py:10" in ran.stderr
    assert ElementTree.parse(tmp_path / "junit.xml").getroot().get("failures") == "1"


@pytest.mark.slow
@pytest.mark.parametrize(
    ("end", "code", "word"),
    [("sys.exit(7)", 7, ""), ("sys.exit('gone')", 1, "gone"), ("raise KeyError('lost')", 1, "KeyError: 'lost'")],
)
def test_exit_codes_and_exceptions_are_the_scripts_own(
    script: Callable[..., Path], end: str, code: int, word: str
) -> None:
    ran = command(script(end=end))
    assert ran.returncode == code
    assert word in ran.stderr
    assert "nothing found" in ran.stderr


@pytest.mark.slow
@pytest.mark.parametrize("module", ["covlab.watch", "covlab watch"])
def test_a_traceback_begins_in_the_script_and_files_are_where_the_command_was_given(
    script: Callable[..., Path], tmp_path: Path, module: str
) -> None:
    path = script(end="import os; os.chdir('/'); print(open(__file__).name); raise KeyError('lost')")
    ran = command("--json", "report.json", path.name, cwd=tmp_path, module=module)
    assert ran.stdout.splitlines()[-1] == str(path)
    assert (tmp_path / "report.json").is_file()
    trace = ran.stderr[ran.stderr.index("Traceback") :].splitlines()
    assert trace[1].startswith(f'  File "{path}"')
    assert trace[-1] == "KeyError: 'lost'"


def test_the_help_says_what_is_checked_and_what_the_exit_status_means(capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit) as end:
        parse(["--help"])
    printed = capsys.readouterr().out
    assert end.value.code == 0 and "exit status" in printed
    assert all(f"{code}  {title}" in printed for code, title in TITLES.items())


@pytest.mark.slow
def test_a_module_runs_as_python_would_run_it(script: Callable[..., Path]) -> None:
    path = script()
    ran = command("-m", "train", "their", cwd=path.parent)
    assert ran.returncode == 0, ran.stderr
    assert ran.stdout.splitlines()[0] == "__main__ ['their'] found"


@pytest.mark.slow
def test_importing_it_takes_torch_and_the_standard_library_alone() -> None:
    code = (
        "import sys, covlab.watch; print(*sorted({name.split('.')[0] for name in sys.modules} & {'rich', "
        "'matplotlib', 'click', 'covlab', 'IPython'}))"
    )
    rooms = (
        "print(*sorted(name for name in sys.modules if name.startswith('covlab.') and not "
        "name.startswith('covlab.watch')))"
    )
    ran = subprocess.run([sys.executable, "-c", f"{code}; {rooms}"], capture_output=True, text=True, check=True)
    assert ran.stdout.splitlines() == ["covlab", ""]


@pytest.mark.filterwarnings("ignore:Detected call of `lr_scheduler.step")
@pytest.mark.parametrize("first", [True, False], ids=["before", "after"])
@pytest.mark.parametrize("every", [1, 4], ids=["step", "epoch"])
def test_a_schedule_that_advances_before_the_first_step_is_noted(first: bool, every: int) -> None:
    model = network()
    optimizer = torch.optim.AdamW(model.parameters(), lr=1e-2)
    schedule = torch.optim.lr_scheduler.StepLR(optimizer, 2)
    with watch(model, optimizer) as w:
        for number, (x, y) in enumerate(batches(12)):
            if first and number % every == 0:
                schedule.step()
            optimizer.zero_grad()
            F.cross_entropy(model(x), y).backward()
            optimizer.step()
            if not first and number % every == every - 1:
                schedule.step()
    noted = [
        (finding.code, finding.verdict, finding.location and finding.location.code) for finding in w.report().findings
    ]
    assert noted == ([("W05", "note", "schedule.step()")] if first else [])


def test_a_clipping_is_counted_once_a_step() -> None:
    with watch() as w:
        run_loop("textbook_clip_before_unscale_faulty")
    finding = w.report().of("W06")
    assert finding is not None and finding.first is not None and finding.last is not None
    assert finding.times == finding.last - finding.first + 1 == w.report().seen["steps"]


FRAMEWORKS = ("transformers.trainer", "lightning.pytorch.trainer", "lightning.fabric.fabric", "accelerate.accelerator")


@pytest.mark.parametrize("action", get_args(Action))
def test_advice_that_names_code_of_the_loop_reads_differently_where_a_framework_runs_it(action: Action) -> None:
    advice = {}
    for framework in FRAMEWORKS:
        line = CodeLocation("train.py", 1, "main", LibraryLine(framework, 1, "library.py", framework))
        advice[framework] = framework_advice(line, action)
    told = [one for one in advice.values() if one is not None]
    assert advice["lightning.pytorch.trainer"] and len(set(told)) == len(told)
    own = CodeLocation("train.py", 1, "main", LibraryLine("timm.layers", 1, "library.py", "timm.layers"))
    assert framework_advice(own, action) is None and framework_advice(None, action) is None


def test_every_action_is_the_one_of_an_advice_that_the_invariant_gives() -> None:
    for invariant in INVARIANTS:
        given = {text for name, text in vars(invariant).items() if name.startswith("fix")}
        assert invariant.actions.keys() <= given | {FIX_CHECKPOINT}
        assert not set(invariant.actions.values()) - set(get_args(Action))


def test_a_finding_in_a_framework_advises_in_its_terms() -> None:
    trainer = "transformers.trainer"
    line = CodeLocation("train.py", 1, "main", LibraryLine(trainer, 1, "library.py", trainer))
    for invariant in INVARIANTS:
        for fix, action in invariant.actions.items():
            finding = invariant().found(line, "fault", "", fix, number=1)
            assert finding.fix == framework_advice(line, action) != fix
            assert invariant().found(None, "fault", "", fix, number=1).fix == fix
