"""A study that many workers share: nothing lost but a killed worker's trial, nothing agreed on by accident."""

import os
import re
import shlex
import shutil
import signal
import socket
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any, Never

import optuna
import pytest
from click.testing import CliRunner, Result
from optuna.trial import TrialState

from covlab.cli.main import main
from covlab.scenes.simulator import scene_generator
from covlab.scenes.streams import FreshScenes
from covlab.training import study as studies
from covlab.training.checkpoint import read_checkpoint
from covlab.training.loss import LossWeights
from covlab.training.nan_diagnosis import NonFiniteLoss
from covlab.training.progress import Silent
from covlab.training.run_config import build
from covlab.training.study import Settings, StudyError, Tuned, best, open_study, settings_of, work
from covlab.training.trainer import Trainer

TINY: dict[str, Any] = {
    "windows": 4,
    "epoch": 2,
    "micro_batch": 8,
    "accumulation": 1,
    "validation": 16,
    "heartbeat": 1,
    "search": {"learning_rate": (1e-3, 1e-2), "lam_gap": (1e-3, 1e-1), "lam_K": (0.0, 0.0), "width": (16, 16)},
}
OPTIONS = ["--windows=4", "--epoch=2", "--micro-batch=8", "--accumulation=1", "--validation=16", "--heartbeat=1"]
OPTIONS += ["--search=learning_rate=1e-3:1e-2", "--search=lam_gap=1e-3:1e-1", "--search=lam_K=0", "--search=width=16"]


@pytest.fixture
def storage(tmp_path: Path) -> str:
    return f"sqlite:///{tmp_path}/studies.db"


def covlab(*arguments: object) -> Result:
    return CliRunner().invoke(main, [*map(str, arguments)])


def quietly(study: optuna.Study, trials: int) -> None:
    work(study, trials=trials, say=lambda line: None)


# ------------------------------------------------------------------ workers that share a study

STALLS = """
import sys, time
from pathlib import Path
from covlab.cli.tune import tune
from covlab.training import study as studies
flag = Path(sys.argv.pop())
studies.report_epoch = lambda run, trial: (flag.write_text(str(trial.number)), time.sleep(600))
tune()
"""


def share_a_study(storage: str, folder: Path) -> None:
    """Three workers that begin at once; one stalls in its first trial and is killed there."""
    join = ["--study", "shared", "--storage", storage, "--trials", "4", *OPTIONS]
    flag = folder / "stalled"
    kinds = [[sys.executable, "-c", STALLS, *join, str(flag)]] + 2 * [[sys.executable, "-m", "covlab", "tune", *join]]
    workers = [subprocess.Popen(kind, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True) for kind in kinds]
    deadline = time.monotonic() + 120
    assert workers[0].stdout is not None
    while not flag.exists() or not flag.read_text():
        assert workers[0].poll() is None and time.monotonic() < deadline, workers[0].stdout.read()
        time.sleep(0.05)
    workers[0].kill()
    lost = int(flag.read_text())
    for worker in workers[1:]:
        output = worker.communicate(timeout=120)[0]
        assert worker.returncode == 0, output
    workers[0].communicate()

    study = open_study(storage, "shared")
    for done in range(5, 60):  # a later worker finds the dead one's trial, as soon as two heartbeats are missing
        again = [
            trial
            for trial in study.trials
            if lost in trial.system_attrs.get("retry_history", []) and trial.state.is_finished()
        ]
        if again:
            break
        quietly(study, trials=done)
        time.sleep(0.1)
    trials = study.trials
    assert trials[lost].state == TrialState.FAIL and [
        trial.number for trial in trials if trial.state == TrialState.FAIL
    ] == [lost]
    assert not [trial for trial in trials if not trial.state.is_finished()]
    assert again[0].params == trials[lost].params and again[0].state in (TrialState.COMPLETE, TrialState.PRUNED)
    found = best(storage, "shared")
    complete = [trial.value for trial in trials if trial.state == TrialState.COMPLETE]
    assert found.nmse == min(value for value in complete if value is not None)


def test_three_workers_share_a_file_and_one_is_killed(storage: str, tmp_path: Path) -> None:
    share_a_study(storage, tmp_path)


@pytest.fixture
def postgresql() -> Iterator[str]:
    """The URL of a database on a server of its own, on this machine, in a folder of its own."""
    places = [
        *sorted(Path("/usr/lib/postgresql").glob("*/bin"), reverse=True),
        *map(Path, os.environ["PATH"].split(os.pathsep)),
    ]
    binaries = next((place for place in places if (place / "initdb").exists() and (place / "postgres").exists()), None)
    if binaries is None:
        pytest.skip("no PostgreSQL server (initdb, postgres) on this machine")
    user: dict[str, Any] = {"user": "nobody"} if os.geteuid() == 0 else {}  # the server refuses to run as root
    folder = Path(tempfile.mkdtemp(prefix="covlab-postgresql-"))
    if user:
        shutil.chown(folder, "nobody")
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port = probe.getsockname()[1]
    data = folder / "data"
    initialize: list[str | Path] = [
        binaries / "initdb",
        "-D",
        data,
        "-U",
        "covlab",
        "-A",
        "trust",
        "--no-locale",
        "-E",
        "UTF8",
        "--no-sync",
    ]
    subprocess.run(initialize, check=True, capture_output=True, cwd=folder, **user)
    command: list[str | Path] = [
        binaries / "postgres",
        "-D",
        data,
        "-p",
        str(port),
        "-k",
        folder,
        "-c",
        "listen_addresses=127.0.0.1",
        "-c",
        "fsync=off",
    ]
    with (folder / "log").open("w") as log:
        server = subprocess.Popen(command, stdout=log, stderr=log, cwd=folder, **user)
    try:
        server_at: list[str | Path] = ["-h", "127.0.0.1", "-p", str(port), "-d", "postgres", "-U", "covlab"]
        ready = [binaries / "pg_isready", *server_at]
        for _ in range(300):
            if subprocess.run(ready, check=False, capture_output=True).returncode == 0:
                break
            assert server.poll() is None, (folder / "log").read_text()
            time.sleep(0.1)
        yield f"postgresql+psycopg2://covlab@127.0.0.1:{port}/postgres"
    finally:
        server.send_signal(signal.SIGINT)  # its "fast" shutdown, which waits for no client
        server.wait(30)
        shutil.rmtree(folder)


@pytest.mark.slow
def test_three_workers_share_a_server_and_one_is_killed(postgresql: str, tmp_path: Path) -> None:
    pytest.importorskip("psycopg2")
    share_a_study(postgresql, tmp_path)


# ------------------------------------------------------------------ what a study holds


def test_a_worker_joins_by_name_alone_and_one_that_disagrees_is_refused(storage: str) -> None:
    open_study(storage, "mine", **TINY)
    assert settings_of(storage, "mine") == Settings(**TINY)
    open_study(storage, "mine")
    open_study(storage, "mine", windows=4)
    with pytest.raises(
        StudyError, match="study 'mine' already has other settings.*: windows is 4, not 5; seed is 0, not 3$"
    ):
        open_study(storage, "mine", windows=5, seed=3)
    with pytest.raises(StudyError, match="search is .*, not "):
        open_study(storage, "mine", search={"lam_gap": (1e-3, 1e-1)})
    refused = covlab("tune", "--study", "mine", "--storage", storage, "--trials", 1, "--preset", "full")
    assert refused.exit_code == 2 and "preset is student, not full" in refused.output


def test_a_study_of_something_else_is_refused(storage: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(studies.time, "sleep", lambda seconds: None)
    with pytest.raises(StudyError, match="has no study 'ours', nor any other"):
        best(storage, "ours")
    optuna.create_study(storage=storage, study_name="theirs")
    with pytest.raises(StudyError, match="'theirs' in sqlite:.* has no settings of covlab: choose another name"):
        open_study(storage, "theirs")
    with pytest.raises(StudyError, match="has no study 'ours', only theirs"):
        best(storage, "ours")


def test_what_is_minimized_is_the_held_out_error_and_it_can_be_had_again(storage: str) -> None:
    """Scaling every weight scales the loss and leaves the minimized value where it was; training again gives it to the
    bit.
    """
    study = open_study(storage, "mine", **TINY)
    quietly(study, trials=2)
    assert study.trials[0].params == {"learning_rate": 3e-3, "lam_gap": 0.012}  # the defaults come first
    found = best(storage, "mine")
    winner = study.trials[found.trial]
    reached = [trial.value for trial in study.trials if trial.value is not None]
    assert isinstance(found, Tuned) and found.nmse == winner.value == min(reached) and len(reached) == 2
    config = found.settings.config({**winner.params, "lam_K": 0.0, "width": 16}, "again")
    run = build(config, "cpu", progress=Silent())
    assert isinstance(run.scenes, FreshScenes)
    run.validation = run.scenes.simulator.draw(16, scene_generator(0, "tuning"))
    assert run.fit().evaluate().mean().item() == pytest.approx(found.nmse, rel=1e-6)
    assert run.history[-1]["train"] != pytest.approx(found.nmse, rel=1e-3)


def test_weights_say_which_study_and_trial_they_come_from(storage: str, tmp_path: Path) -> None:
    study = open_study(storage, "mine", **TINY)
    quietly(study, trials=2)
    found = best(storage, "mine")
    origin = f"study mine, trial {found.trial}"
    assert found.weights.provenance == dict.fromkeys(LossWeights().values(), "default") | {
        "lam_gap": origin,
        "lam_K": origin,
    }
    assert found.weights.lam_K == 0 and found.width == 16
    result = covlab(
        "train",
        "--study",
        "mine",
        "--storage",
        storage,
        "--windows",
        2,
        "--micro-batch",
        4,
        "--folder",
        tmp_path / "run",
    )
    assert result.exit_code == 0, result.output
    config = read_checkpoint(tmp_path / "run" / "last.pt")["config"]
    assert config["width"] == 16 and config["recipe"]["learning_rate"] == found.learning_rate
    assert config["weights"] == {**found.weights.values(), "provenance": found.weights.provenance}
    taken_up = covlab("train", "--resume", tmp_path / "run")
    assert taken_up.exit_code == 0, taken_up.output
    clash = covlab("train", "--study", "mine", "--storage", storage, "--learning-rate", 1, "--weight", "lam_gap=0")
    assert clash.exit_code == 2 and "--study sets these itself; leave out learning_rate, weights" in clash.output


def test_no_best_before_a_complete_trial(storage: str) -> None:
    open_study(storage, "mine", **TINY)
    with pytest.raises(StudyError, match="'mine' has no complete trial yet"):
        best(storage, "mine")


# ------------------------------------------------------------------ trials that end early


def test_a_run_worse_than_the_median_is_stopped(storage: str) -> None:
    study = open_study(
        storage, "mine", **TINY | {"epoch": 1, "search": {"learning_rate": (1e-8, 1e-2), "width": (16, 16)}}
    )
    for rate in [3e-3] * 4 + [1e-8]:
        study.enqueue_trial({"learning_rate": rate})
    quietly(study, trials=6)
    *good, bad = study.trials
    assert {trial.state for trial in good} == {TrialState.COMPLETE}
    assert bad.last_step is not None
    assert bad.state == TrialState.PRUNED and bad.last_step < 4 == good[0].last_step


def test_a_run_whose_loss_is_not_finite_is_pruned_and_not_failed(storage: str, monkeypatch: pytest.MonkeyPatch) -> None:
    study = open_study(storage, "mine", **TINY)

    def explode(run: Trainer) -> Never:
        raise NonFiniteLoss("as it happens")

    monkeypatch.setattr(studies.Trainer, "windows", explode)
    quietly(study, trials=1)
    assert [trial.state for trial in study.trials] == [TrialState.PRUNED]


@pytest.mark.parametrize("while_it", ["is made", "trains"])
def test_an_interrupted_trial_goes_back_to_the_study(
    storage: str, monkeypatch: pytest.MonkeyPatch, while_it: str
) -> None:
    study, honest = open_study(storage, "mine", **TINY), studies.build

    def interrupt(*args: Any, **kwargs: Any) -> Trainer:
        if while_it == "is made":
            signal.raise_signal(signal.SIGINT)
        run = honest(*args, **kwargs)
        monkeypatch.setattr(run, "schedule", lambda ran: signal.raise_signal(signal.SIGINT))
        return run

    monkeypatch.setattr(studies, "build", interrupt)
    with pytest.raises(KeyboardInterrupt):
        quietly(study, trials=1)
    monkeypatch.setattr(studies, "build", honest)
    quietly(study, trials=1)
    first, second = study.trials
    assert first.state == TrialState.FAIL and second.state == TrialState.COMPLETE and first.params == second.params


def test_a_worker_whose_trial_was_taken_for_dead_goes_on(storage: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """As happens to a machine that slept: the trial is failed, and begun again, by somebody else."""
    study, honest = open_study(storage, "mine", **TINY), studies.report_epoch
    lines: list[str] = []

    def fail_first(run: Trainer, trial: optuna.Trial) -> None:
        if trial.number == 0:
            study._storage.set_trial_state_values(trial._trial_id, TrialState.FAIL)
        honest(run, trial)

    monkeypatch.setattr(studies, "report_epoch", fail_first)
    work(study, trials=1, say=lines.append)
    assert "took over a trial" in lines[0] and lines[1].startswith("trial 1: NMSE 0.")
    monkeypatch.setattr(studies, "build", lambda *args, **kwargs: Settings(windows=0))
    with pytest.raises(ValueError, match="windows must be"):  # any other error is not taken for that
        quietly(study, trials=2)


# ------------------------------------------------------------------ what is refused


@pytest.mark.parametrize(
    "given, message",
    [
        ({"preset": "huge"}, "preset must be one of student"),
        ({"network": "huge"}, "network must be one of"),
        ({"precision": "fp8"}, "precision must be one of"),
        ({"windows": 0}, "windows must be a whole number from 1 to [0-9]+, got 0"),
        ({"heartbeat": 0.5}, "heartbeat must be a whole number from 1 to [0-9]+, got 0.5"),
        ({"seed": -1}, "seed must be a whole number from 0 to [0-9]+, got -1"),
        ({"search": {"lam_nonsense": (0.1, 1.0)}}, "each name in search must be one of .*got 'lam_nonsense'"),
        ({"search": {"lam_gap": (0.0, 1.0)}}, "search of lam_gap must be .*got \\(0.0, 1.0\\)"),
        ({"search": {"lam_gap": (1.0, 0.1)}}, "search of lam_gap must be"),
        ({"search": {"lam_cov": (0.0, 0.0)}}, "lam_cov must be above 0"),
        ({"search": {"width": (1.5, 2.5)}}, "search of width must be .* whole number"),
        ({"nonsense": 1}, "nonsense"),
    ],
    ids=str,
)
def test_settings_are_refused_by_name_and_leave_nothing(tmp_path: Path, given: dict[str, Any], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        open_study(f"sqlite:///{tmp_path}/studies.db", "mine", **given)
    assert not list(tmp_path.iterdir())


@pytest.mark.parametrize(
    "arguments, message",
    [
        ([], "give --trials, --minutes or both"),
        (["--trials", 1, "--storage", "nonsense"], "storage must be a URL such as sqlite:"),
        (
            ["--trials", 1, "--storage", "mysql+mysqldb://a:secret@b/c"],
            "mysql\\+mysqldb://a:\\*\\*\\*@b/c needs a database driver",
        ),
    ],
    ids=str,
)
def test_the_command_refuses_by_name(storage: str, arguments: list[object], message: str) -> None:
    result = covlab("tune", "--study", "mine", "--storage", storage, *arguments)
    assert result.exit_code != 0 and "Traceback" not in result.output
    assert re.search(message, result.output), result.output


@pytest.mark.parametrize("kind", ["postgresql+psycopg2", "mysql+mysqldb", "postgresql", "nonsense"])
@pytest.mark.parametrize(
    "rest",
    [
        "u:{}@127.0.0.1:1/d",
        "u:{}@127.0.0.1:port/d",
        ":{}@127.0.0.1:1/d",
        "127.0.0.1:1/d?password={}",
        "u:{}@127.0.0.1:1/d?x=y",
    ],
)
@pytest.mark.parametrize("password", ["Pa55w0rd", "Pa55:w0rd", "Pa55%40w0rd", "Pa55@w0rd", "Pa55/w0rd", "Pa55?w0rd"])
def test_no_password_is_shown(kind: str, rest: str, password: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(studies.time, "sleep", lambda seconds: None)
    monkeypatch.setenv("COVLAB_STORAGE", f"{kind}://{rest.format(password)}")
    for command in (["tune", "--study", "s", "--trials", "1"], ["train", "--study", "s"]):
        result = CliRunner().invoke(main, command)
        assert result.exit_code == 2 and isinstance(result.exception, SystemExit)
        assert "Pa55" not in result.output and "w0rd" not in result.output and "storage" in result.output


def test_a_storage_from_the_environment_is_left_out_of_the_printed_commands(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    url, name = f"sqlite:///{tmp_path}/a b.db", "my study; echo"
    tune = ["tune", "--study", name, "--trials", "1", *OPTIONS]
    given = CliRunner().invoke(main, [*tune, "--storage", url])
    words = [shlex.split(line.partition("covlab ")[2]) for line in given.output.splitlines() if "covlab " in line]
    assert [line[:5] for line in words] == [[word, "--study", name, "--storage", url] for word in ("tune", "train")]
    monkeypatch.setenv("COVLAB_STORAGE", url)
    kept = CliRunner().invoke(main, tune)
    assert kept.exit_code == 0 and "--storage" not in kept.output and settings_of(url, name).windows == 4


def test_a_storage_that_cannot_be_opened_is_named(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(studies.time, "sleep", lambda seconds: None)
    with pytest.raises(StudyError, match="sqlite:.*/nowhere/studies.db cannot be opened: unable to open database file"):
        open_study(f"sqlite:///{tmp_path}/nowhere/studies.db", "mine")
