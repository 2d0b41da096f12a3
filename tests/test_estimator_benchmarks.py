"""The benchmarks that compare estimators: a stopped sampler goes on where it was, and rivals meet the same scenes."""

import json
import runpy
from pathlib import Path
from typing import Any

import pytest
import torch

from covlab.estimators import ladder
from covlab.estimators.calibration import calibrate
from covlab.scenes.scenario import preset
from covlab.scenes.simulator import Simulator, scene_generator
from covlab.training.pretrained import pretrained

BENCHMARKS = Path(__file__).parents[1] / "benchmarks"


@pytest.fixture(autouse=True)
def threads() -> Any:
    """Give back the number of threads, which a benchmark sets to 1."""
    before = torch.get_num_threads()
    yield
    torch.set_num_threads(before)


def benchmark(name: str, monkeypatch: pytest.MonkeyPatch, *arguments: str) -> dict[str, Any]:
    """Run a benchmark in the current folder, and return what it stored."""
    monkeypatch.setattr("sys.argv", [name, "--preset", "student", "--json", "results.json", *arguments])
    runpy.run_path(str(BENCHMARKS / f"{name}.py"))["main"]()
    return json.loads(Path("results.json").read_text())


def test_the_limit_goes_on_where_it_was_stopped(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    arguments = ("--scenes", "18", "--draws", "8", "--sweeps", "1")
    monkeypatch.chdir(tmp_path)
    whole = benchmark("limit", monkeypatch, *arguments)["student"]
    assert not list(Path("runs/limit").iterdir())  # a finished command keeps nothing

    honest = torch.save
    saved: list[str] = []

    def save(value: Any, path: Path) -> None:
        if len(saved) == 2:
            raise KeyboardInterrupt
        honest(value, path)
        saved.append(path.name)

    with monkeypatch.context() as stopped, pytest.raises(KeyboardInterrupt):
        stopped.setattr(torch, "save", save)
        benchmark("limit", stopped, *arguments)
    assert sorted(path.suffix for path in Path("runs/limit").iterdir()) == [".pt", ".pt"]

    def record(value: Any, path: Path) -> None:
        honest(value, path)
        saved.append(path.name)

    saved.clear()
    with monkeypatch.context() as watched:
        watched.setattr(torch, "save", record)
        benchmark("limit", watched, *arguments[:-1], "2")  # pieces of other settings are of no use
        assert len(saved) == 4
        saved.clear()
        again = benchmark("limit", watched, *arguments)["student"]
    assert len(saved) == 2 and all("--run 1" in name for name in saved)
    assert {name: again[name] for name in whole if name != "seconds"} == {
        name: whole[name] for name in whole if name != "seconds"
    }


def test_excess_compares_with_the_network_scene_by_scene(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    only = ("--only", "genie", "--only", "unrolled network")
    rows = {row["name"]: row for row in benchmark("estimators", monkeypatch, "--scenes", "8", *only)["rows"]}
    scenario = preset("student")
    simulator = Simulator(scenario)
    G = calibrate(simulator.draw(16, scene_generator(0, "calibration")))
    batch = simulator.draw(8, scene_generator(0, "estimators"))
    with torch.no_grad():
        network = pretrained("student")(batch.y, batch.H, batch.codes, batch.snr_db).nmse(batch)
        excess = ladder(scenario)["genie"](batch, G).nmse(batch) - network
    assert rows["genie"]["excess"]["mean"] == pytest.approx(excess.mean().item(), abs=1e-5)
    low, high = rows["genie"]["excess"]["mean_95"]
    assert low < excess.mean() < high and "excess" not in rows["unrolled network"]
