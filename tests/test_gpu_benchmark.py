"""The script for a lent GPU runs here, small, from its one call to its table."""

import json
import subprocess
import sys
from pathlib import Path

SCRIPT = Path(__file__).parents[1] / "benchmarks" / "gpu.py"


def test_one_call_measures_everything_on_the_cpu_too(tmp_path: Path) -> None:
    small = [
        "--preset",
        "student",
        "--micro-batch",
        "8",
        "--minutes",
        "0.01",
        "--seconds",
        "0.02",
        "--size",
        "128",
        "--device",
        "cpu",
    ]
    done = subprocess.run(
        [sys.executable, SCRIPT, *small, "--json", tmp_path / "gpu.json"],
        check=False,
        capture_output=True,
        text=True,
        timeout=300,
    )
    assert done.returncode == 0, done.stderr
    found = json.loads((tmp_path / "gpu.json").read_text())
    assert {row["precision"] for row in found["rows"]} == {"fp32", "fp16", "bf16"} and not found["missing"], done.stdout
    for row in found["rows"]:
        assert row["waits"] == 0  # nothing on the way from the generator to the ledger waits for the device
        assert row["operations"] > 0 < row["windows_per_second"] and row["share_operations"] > 0
    assert 0 < found["learned"]["nmse"] < 2 and done.stdout.splitlines()[-1].startswith("held-out NMSE")
    assert found["command"].startswith("python benchmarks/gpu.py --preset student") and found["versions"]["torch"]
