"""`covlab train` and `covlab bench`, as used from a shell."""

import errno
import io
import json
import os
import re
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any, NoReturn

import pytest
import torch
from click.testing import CliRunner, Result

from covlab.cli.main import main
from covlab.cli.train import new_folder
from covlab.metrics import by_snr
from covlab.networks.model import BackProjectionNet
from covlab.scenes.scenario import preset
from covlab.scenes.simulator import Simulator, scene_generator
from covlab.training.checkpoint import load_parameters, read_checkpoint
from covlab.training.ranks import RankLost

STUDENT = preset("student")


def covlab(*arguments: object) -> Result:
    return CliRunner().invoke(main, [*map(str, arguments)])


@pytest.fixture(scope="module")
def run(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, str]:
    folder = tmp_path_factory.mktemp("train") / "run"
    result = covlab("train", "--windows", 30, "--epoch", 10, "--folder", folder, "--weight", "lam_gap=0", "--debug")
    assert result.exit_code == 0, result.output
    return folder, result.output


def test_run_logs_what_it_does_and_where_its_files_are(run: tuple[Path, str]) -> None:
    folder, output = run
    assert output.startswith(f"folder {folder}\n[DEBUG] Loss is finite")
    epochs = re.findall(r"^Epoch (\d{3})/003: train \d\.\d{6} val \d\.\d{6}$", output, re.MULTILINE)
    assert epochs == ["001", "002", "003"]
    assert re.search(r"NMSE on 2048 held-out scenes: mean 0\.\d{4}, median 0\.\d{4}\n  SNR  -5 to  0 dB", output)
    files = {str(path.relative_to(folder)) for path in folder.rglob("*") if path.is_file()}
    assert files == {
        ".lock",
        "config.json",
        "ledger.jsonl",
        "epochs.json",
        "last.pt",
        "previous.pt",
        "best.pt",
        "figures/learning_curves.png",
        "figures/windows.png",
    }
    assert len((folder / "ledger.jsonl").read_text().splitlines()) == 30


def test_configuration_is_resolved_with_provenance(run: tuple[Path, str]) -> None:
    config = json.loads((run[0] / "config.json").read_text())
    assert (config["scenario"]["name"], config["network"]) == ("student", "BackProjectionNet")
    assert config["recipe"]["windows"] == 30
    assert config["weights"]["lam_gap"] == 0 and config["weights"]["provenance"]["lam_gap"] == "argument"
    assert config["weights"]["provenance"]["lam_cov"] == "default"


def test_best_parameters_load_into_a_network(run: tuple[Path, str]) -> None:
    network = BackProjectionNet(STUDENT)
    load_parameters(network, run[0] / "best.pt")
    held_out = Simulator(STUDENT).draw(2048, scene_generator(0, "validation"))
    scores = network.eval()(held_out.y, held_out.H, held_out.codes, held_out.snr_db).nmse(held_out)
    assert scores.mean().item() == pytest.approx(read_checkpoint(run[0] / "best.pt")["validation"], rel=1e-5)


def test_finished_run_can_be_evaluated_again_but_not_overwritten(run: tuple[Path, str]) -> None:
    folder, output = run
    again = covlab("train", "--resume", folder)
    assert again.exit_code == 0 and "resuming after window 30 of 30" in again.output
    assert re.findall("NMSE on.*", again.output) == re.findall("NMSE on.*", output)
    clash = covlab("train", "--windows", 30, "--folder", folder)
    assert clash.exit_code == 2 and "already holds a run" in clash.output


@pytest.fixture
def read_only(run: tuple[Path, str], monkeypatch: pytest.MonkeyPatch) -> Path:
    """The folder of a finished run, in which nothing can be made, changed or removed."""
    folder, access, opened = run[0], os.access, io.open

    def inside(path: object) -> bool:
        return isinstance(path, str | Path) and Path(path).is_relative_to(folder)

    def refused(honest: Callable[..., Any]) -> Callable[..., Any]:
        def call(*args: Any, **kwargs: Any) -> Any:
            if any(map(inside, args)):
                raise OSError(errno.EROFS, os.strerror(errno.EROFS), str(args[0]))
            return honest(*args, **kwargs)

        return call

    def open_to_read(path: Any, mode: str = "r", *args: Any, **kwargs: Any) -> Any:
        if inside(path) and set(mode) & set("wax+"):
            raise OSError(errno.EROFS, os.strerror(errno.EROFS), str(path))
        return opened(path, mode, *args, **kwargs)

    for name in ("mkdir", "replace", "rename", "unlink", "link", "symlink"):
        monkeypatch.setattr(os, name, refused(getattr(os, name)))
    monkeypatch.setattr(io, "open", open_to_read)
    monkeypatch.setattr("builtins.open", open_to_read)
    monkeypatch.setattr(os, "access", lambda path, mode: access(path, mode) and not (inside(path) and mode & os.W_OK))
    return folder


def test_a_finished_run_is_read_from_read_only_media(run: tuple[Path, str], read_only: Path) -> None:
    before = {path: path.stat().st_mtime_ns for path in read_only.rglob("*")}
    again = covlab("train", "--resume", read_only)
    assert again.exit_code == 0 and "no figures are drawn, because it is read-only" in again.output
    assert re.findall("NMSE on.*", again.output) == re.findall("NMSE on.*", run[1])
    more = covlab("train", "--resume", read_only, "--windows", 31)
    assert more.exit_code == 1 and "Read-only file system" in more.output and "Traceback" not in more.output
    assert {path: path.stat().st_mtime_ns for path in read_only.rglob("*")} == before


def test_overfit_run_reports_memorized_and_held_out_scenes(tmp_path: Path) -> None:
    result = covlab("train", "--overfit", "--windows", 8, "--nmse-only", "--folder", tmp_path / "run")
    assert "NMSE on 512 memorized scenes" in result.output and "NMSE on 2048 held-out scenes" in result.output


def test_minutes_become_windows_and_are_stored(tmp_path: Path) -> None:
    result = covlab("train", "--minutes", 0.03, "--folder", tmp_path / "run")
    assert result.exit_code == 0, result.output
    said = re.search(r"0\.03 minutes: (\d+) windows", result.output)
    assert said is not None
    windows = int(said.group(1))
    assert json.loads((tmp_path / "run" / "config.json").read_text())["recipe"]["windows"] == windows
    assert 1 <= windows < 2000


def test_a_folder_that_cannot_be_made_is_named_without_advice_to_resume(tmp_path: Path) -> None:
    (tmp_path / "file").touch()
    for folder in (tmp_path / "file", tmp_path / "file" / "run"):
        result = covlab("train", "--windows", 1, "--folder", folder)
        assert result.exit_code == 2 and str(tmp_path / "file") in result.output
        assert "resume" not in result.output and "Errno" not in result.output


def test_resuming_refuses_other_settings_and_no_run(tmp_path: Path, run: tuple[Path, str]) -> None:
    clash = covlab("train", "--resume", run[0], "--micro-batch", 3, "--seed", 1)
    assert "a resumed run keeps its own settings; leave out micro_batch, seed" in clash.output
    assert "must be the folder of a run" in covlab("train", "--resume", tmp_path).output


def test_a_finished_run_gets_more_windows_or_minutes(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("covlab.training.run_config.WARM_UP_SECONDS", 0.1)
    folder = tmp_path / "run"
    covlab("train", "--windows", 3, "--epoch", 2, "--micro-batch", 4, "--folder", folder)
    more = covlab("train", "--resume", folder, "--windows", 5)
    assert more.exit_code == 0 and "resuming after window 3 of 5" in more.output
    assert (
        "5 windows instead of 3. From here the learning rate follows the schedule of 5 windows: it goes" in more.output
    )
    assert json.loads((folder / "config.json").read_text())["recipe"]["windows"] == 5
    fewer = covlab("train", "--resume", folder, "--windows", 4)
    assert fewer.exit_code == 2 and "windows must be at least 5, which the run has trained, got 4" in fewer.output
    assert covlab("train", "--resume", folder).exit_code == 0
    timed = covlab("train", "--resume", folder, "--minutes", 1e-6)
    assert timed.exit_code == 0 and "resuming after window 5 of 6" in timed.output


def test_runs_that_begin_in_the_same_second_get_two_folders(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    with ThreadPoolExecutor(8) as threads:
        made = list(threads.map(lambda _: new_folder("student"), range(40)))
    assert len(set(made)) == 40 and all(folder.is_dir() and folder.parent == Path("runs") for folder in made)


def test_scores_by_snr_cover_every_scene_once() -> None:
    batch = Simulator(STUDENT).draw(500, scene_generator(0, "test"))
    rows = by_snr(batch, batch.snr_db)
    assert sum(row["scenes"] for row in rows) == 500
    assert all(row["low_db"] <= row["mean"] <= row["high_db"] for row in rows)
    assert torch.tensor([row["mean"] * row["scenes"] for row in rows]).sum() / 500 == pytest.approx(
        batch.snr_db.mean().item()
    )


def test_bench_lists_and_refuses() -> None:
    listed = covlab("bench")
    assert listed.exit_code == 0 and "covlab bench trainer" in listed.output
    assert "NAME must be one of" in covlab("bench", "nonsense").output


def test_a_rank_lost_before_the_run_has_a_folder_advises_no_resume(monkeypatch: pytest.MonkeyPatch) -> None:
    def lost(device: str) -> NoReturn:
        raise RankLost("rank 1 of 2: another rank has ended")

    monkeypatch.setattr("covlab.cli.train.joined", lost)
    done = CliRunner().invoke(main, ["train", "--windows", "2"])
    assert done.exit_code == 1 and "another rank has ended" in done.output and "resume" not in done.output
