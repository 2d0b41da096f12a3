"""Several processes train as one would: same scenes, same gradient, same log; and none is left waiting for a dead
one.
"""

import json
import os
import re
import signal
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from torch import Tensor

from covlab.faults import inject
from covlab.networks.model import BackProjectionNet
from covlab.scenes.scenario import preset
from covlab.scenes.simulator import Simulator, scene_generator
from covlab.scenes.streams import FixedScenes
from covlab.training.checkpoint import CheckpointError, read_checkpoint
from covlab.training.progress import Silent
from covlab.training.ranks import ALONE, ProcessGroup, Ranks, device_of_rank
from covlab.training.recipe import Recipe
from covlab.training.trainer import Trainer

HERE = Path(__file__).parent
SIZES = pytest.mark.parametrize("size", [2, 3])
Seen = dict[str | tuple[int, int], Any]


@pytest.fixture(scope="module")
def seen(tmp_path_factory: pytest.TempPathFactory) -> Seen:
    """{"alone": …, (ranks, number): …}: what real ranks saw; see ranks_at_work.py."""
    folder = tmp_path_factory.mktemp("ranks")
    done = subprocess.run(
        [sys.executable, HERE / "ranks_at_work.py", folder], check=False, capture_output=True, text=True, timeout=300
    )
    assert done.returncode == 0, done.stdout + done.stderr
    numbers = [(size, number) for size in (2, 3) for number in range(size)]
    return {
        "folder": folder,
        "alone": torch.load(folder / "alone.pt"),
        **{(size, number): torch.load(folder / f"{size}-{number}.pt") for size, number in numbers},
    }


def relative_distance(a: Tensor, b: Tensor) -> float:
    return ((a - b).norm() / b.norm()).item()


# ------------------------------------------------------------------ the same as one process


@SIZES
@pytest.mark.parametrize("accumulation", [2, 3, 4])
def test_gradient_of_a_window_is_that_of_one_process(seen: Seen, size: int, accumulation: int) -> None:
    """Uneven ranks, a rank with nothing (two micro-batches for three), ragged micro-batches, short last windows,
    weighted scenes.
    """
    expected = seen["alone"]["gradients"][accumulation]
    assert len(expected) == -(-7 // accumulation)  # a hundred scenes are six micro-batches of sixteen and one of four
    for number in range(size):
        found = seen[size, number]["gradients"][accumulation]
        assert len(found) == len(expected)
        assert all(relative_distance(ours, theirs) <= 1e-5 for ours, theirs in zip(found, expected, strict=True))
        assert all(
            torch.equal(ours, first)
            for ours, first in zip(found, seen[size, 0]["gradients"][accumulation], strict=True)
        )


def test_gradient_is_that_of_torch_where_torch_is_exact(seen: Seen) -> None:
    """DistributedDataParallel with no_sync, on equal shares; it weighs ranks alike whatever they hold, so on no
    others.
    """
    for number in range(2):
        torchs, ours = seen[2, number]["by_torch"]
        assert relative_distance(ours, torchs) <= 1e-5


@SIZES
def test_ranks_see_the_scenes_that_one_process_sees_each_once(seen: Seen, size: int) -> None:
    for window, expected in enumerate(seen["alone"]["drawn"]):
        assert torch.equal(torch.cat([seen[size, number]["drawn"][window] for number in range(size)]), expected)


@SIZES
def test_validation_is_that_of_one_process_to_the_bit(seen: Seen, size: int) -> None:
    assert all(torch.equal(seen[size, number]["scores"], seen["alone"]["scores"]) for number in range(size))


@SIZES
@pytest.mark.parametrize("precision", ["fp32", "fp16"])
def test_the_ledger_is_that_of_one_process(seen: Seen, size: int, precision: str) -> None:
    """Counts, the first bad scene and whether the step ran exactly; numbers as far as another order of adding goes.

    In half precision a rank's gradient is rounded before it is weighed, and parameters that then differ are rounded
    apart; so there the first window's numbers are held, to one unit of half precision.
    """
    expected = seen["alone"][precision]
    assert any(row["bad_scene"] >= 0 for row in expected)
    for number in range(size):
        found = seen[size, number][precision]
        assert len(found) == len(expected)
        for ours, theirs in zip(found, expected, strict=True):
            assert ours.keys() == theirs.keys()
            exact = (
                "window",
                "epoch",
                "scenes",
                "micro_batches",
                "bad_scene",
                "ran",
                "executed",
                "schedule_count",
                "loss_scale",
            )
            assert {name: ours[name] for name in exact} == {name: theirs[name] for name in exact}
            if precision == "fp32" or ours["window"] == 1:
                assert ours == pytest.approx(theirs, rel=1e-5 if precision == "fp32" else 2**-10, nan_ok=True)


@given(st.integers(1, 9), st.integers(0, 40), st.integers(1, 5))
def test_shares_in_order_are_the_whole_and_nearly_equal(size: int, count: int, step: int) -> None:
    numbers, shares = range(3, 3 + step * count, step), []
    for number in range(size):
        ranks = Ranks()
        ranks.size, ranks.number = size, number
        shares.append(ranks.share(numbers))
    assert [number for share in shares for number in share] == list(numbers)
    assert max(map(len, shares)) - min(map(len, shares)) <= 1


# ------------------------------------------------------------------ files, resume, and what is refused


@SIZES
def test_an_interrupt_of_one_rank_ends_all_and_the_run_is_taken_up_to_the_bit(seen: Seen, size: int) -> None:
    assert {seen[size, number]["stopped"] for number in range(size)} == {3}
    whole, parts = seen["folder"] / f"{size}-whole", seen["folder"] / f"{size}-parts"
    for name in ("ledger.jsonl", "epochs.json", "config.json"):
        assert (whole / name).read_text() == (parts / name).read_text()
    assert len((whole / "ledger.jsonl").read_text().splitlines()) == 6  # written once, not once a rank
    ours, theirs = (read_checkpoint(folder / "last.pt") for folder in (parts, whole))
    for name in theirs["model"]:
        assert torch.equal(ours["model"][name], theirs["model"][name])
    assert torch.equal(ours["average"], theirs["average"])


@SIZES
def test_another_number_of_ranks_is_refused(seen: Seen, size: int) -> None:
    with pytest.raises(CheckpointError, match=f"ranks: saved {size}, now 1"):
        small_trainer(folder=seen["folder"] / f"{size}-whole").resume()


@SIZES
def test_what_the_first_rank_refuses_all_refuse(seen: Seen, size: int) -> None:
    for number in range(size):
        taken, missing = seen[size, number]["refusals"]
        assert (
            taken.startswith("FileExistsError") and "already holds a run" in taken and missing == "KeyError: 'nothing'"
        )


def small_trainer(folder: Path | None = None, ranks: Ranks = ALONE) -> Trainer:
    torch.manual_seed(0)
    student = preset("student")
    scenes = Simulator(student).draw(8, scene_generator(0, "test"))
    model = BackProjectionNet(student, beams=16, width=16, rank=2)
    return Trainer(
        model, FixedScenes(scenes, 4, seed=0), scenes, Recipe(windows=2), folder=folder, progress=Silent(), ranks=ranks
    )


def test_faults_are_for_one_process() -> None:
    two = Ranks()
    two.size = 2
    with (
        inject("missing_division"),
        pytest.raises(ValueError, match="faults are for one process, got missing_division in 2 ranks"),
    ):
        small_trainer(ranks=two)


def test_ranks_without_a_gpu_each_are_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    assert device_of_rank("cuda") == "cuda" and device_of_rank("cpu") == "cpu"
    monkeypatch.setenv("WORLD_SIZE", "2")
    monkeypatch.setenv("LOCAL_RANK", str(torch.cuda.device_count()))
    with pytest.raises(ValueError, match="device must leave a GPU for every rank.*use --device cpu"):
        device_of_rank("cuda")
    assert device_of_rank("cpu") == "cpu"


def test_both_kinds_of_ranks_have_the_same_methods() -> None:
    assert {name for name in vars(ProcessGroup) if name[0] != "_"} <= {name for name in vars(Ranks) if name[0] != "_"}


def test_a_rank_that_is_killed_ends_the_others_with_a_message(seen: Seen) -> None:
    for number in (0, 1):
        window, message = (seen["folder"] / f"lost-{number}").read_text().split(" ", 1)
        assert window in ("3", "4")  # within the window the dead one did not come to
        assert message.startswith(f"rank {number} of 3: another rank has ended or does not answer (")


# ------------------------------------------------------------------ as a person starts it


def torchrun(*arguments: object) -> subprocess.Popen[str]:
    command = [
        sys.executable,
        "-m",
        "torch.distributed.run",
        "--standalone",
        "--nproc-per-node",
        "2",
        "-m",
        "covlab",
        "train",
        *map(str, arguments),
    ]
    return subprocess.Popen(
        command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True, env=os.environ | {"OMP_NUM_THREADS": "1"}
    )


def rank_of(launcher: subprocess.Popen[str], number: int) -> int:
    """The process of rank ``number``."""
    for status in Path("/proc").glob("[0-9]*/stat"):
        try:
            parent = int(status.read_text().rpartition(")")[2].split()[1])
            environment = (status.parent / "environ").read_bytes().split(b"\0")
        except OSError:
            continue
        if parent == launcher.pid and f"RANK={number}".encode() in environment:
            return int(status.parent.name)
    raise AssertionError(f"no rank {number}")


@pytest.mark.slow
@pytest.mark.skipif(not Path("/proc/self/environ").exists(), reason="finds the rank in /proc")
@pytest.mark.parametrize("victim", [0, 1])
def test_a_killed_run_of_two_ranks_is_taken_up_and_equals_one_that_was_not(tmp_path: Path, victim: int) -> None:
    settings = ["--windows", 120, "--epoch", 10, "--micro-batch", 8]
    whole = torchrun(*settings, "--folder", tmp_path / "whole")
    assert whole.stderr is not None
    assert whole.wait(300) == 0, whole.stderr.read()
    killed = torchrun(*settings, "--folder", tmp_path / "killed")
    assert killed.stderr is not None
    history = tmp_path / "killed" / "epochs.json"
    while not (history.exists() and history.read_text().count("validation") >= 2):
        assert killed.poll() is None, killed.stderr.read()
        time.sleep(0.02)
    os.kill(rank_of(killed, victim), signal.SIGKILL)
    killed.wait(60)
    message = killed.stderr.read()
    assert killed.returncode != 0 and re.search(
        r"another rank has ended .*to resume the run: torchrun --nproc-per-node 2 -m covlab train "
        rf"--resume {tmp_path}/killed|exitcode *: -9",
        message,
    )
    assert len(json.loads(history.read_text())) < 12

    other = subprocess.run(
        [sys.executable, "-m", "covlab", "train", "--resume", tmp_path / "killed"],
        check=False,
        capture_output=True,
        text=True,
    )
    assert (
        other.returncode == 2
        and (
            "used 2 ranks, and this command uses one process: torchrun --nproc-per-node 2 -m covlab train --resume "
            f"{tmp_path}/killed"
        )
        in other.stderr
    )
    again = torchrun("--resume", tmp_path / "killed")
    output, errors = again.communicate(timeout=300)
    assert again.returncode == 0 and output.count("resuming after window") == 1, errors
    for name in ("ledger.jsonl", "epochs.json"):
        assert (tmp_path / "killed" / name).read_text() == (tmp_path / "whole" / name).read_text()
