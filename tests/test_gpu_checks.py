"""Laws of `covlab env --gpu`: each check holds on a CPU, finds what is wrong, and has its line in docs/gpu.md."""

import re
from pathlib import Path

import pytest
from click.testing import CliRunner

from covlab.cli import gpu_checks
from covlab.cli.gpu_checks import CHECKS, GpuCheck, reason_for_failure
from covlab.cli.main import main
from covlab.faults import inject

PAGE = (Path(__file__).parents[1] / "docs" / "gpu.md").read_text(encoding="utf-8")
NO_GPU = "PyTorch sees no GPU"


def named(part: str) -> GpuCheck:
    [check] = [check for check in CHECKS if part in check.what]
    return check


@pytest.mark.parametrize("check", CHECKS, ids=lambda check: check.run.__name__.strip("_"))
def test_each_check_holds(check: GpuCheck, device: str) -> None:
    assert reason_for_failure(check, device) == ""


@pytest.mark.parametrize(
    "part, bug, reason",
    [
        ("accumulated", "missing_division", "the gradient of three micro-batches differs"),
        ("if and only if", "overflow_probe_wrong_key", "moved the parameters"),
        ("Clipping", "clip_before_unscale", "the norm is"),
    ],
)
def test_a_check_finds_what_is_wrong(part: str, bug: str, reason: str) -> None:
    with inject(bug):
        found = reason_for_failure(named(part), "cpu")
    assert reason in found and "\n" not in found


def test_the_page_lists_the_checks_in_their_order() -> None:
    listed = re.findall(r"^\d+\. (.*(?:\n   .*)*)", PAGE, re.MULTILINE)
    assert [" ".join(line.split()) for line in listed] == [check.what for check in CHECKS]


def test_without_a_gpu_it_says_so_in_one_line(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("torch.cuda.is_available", lambda: False)
    done = CliRunner().invoke(main, ["env", "--gpu"])
    assert done.exit_code == 1 and done.output.count("\n") == 1 and NO_GPU in done.output


@pytest.mark.parametrize("broken", [False, True])
def test_each_check_gets_its_line_and_one_failure_is_exit_status_1(
    broken: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    def fails(device: str) -> None:
        raise RuntimeError(f"CUDA error on {device}\nCompile with TORCH_USE_CUDA_DSA")

    devices: list[str] = []
    checks = [GpuCheck("The first.", devices.append), GpuCheck("The second.", fails if broken else devices.append)]
    monkeypatch.setattr(gpu_checks, "CHECKS", checks)
    for name, value in {"is_available": True, "get_device_name": "Toy GPU", "synchronize": None}.items():
        monkeypatch.setattr(f"torch.cuda.{name}", lambda *_, value=value: value)
    done = CliRunner().invoke(main, ["env", "--gpu"])
    assert devices == ["cuda"] * (1 if broken else 2)
    assert done.exit_code == broken and "Traceback" not in done.output
    lines = done.output.splitlines()
    assert lines[1].startswith("pass") and lines[1].endswith("The first.")
    assert lines[2].startswith("FAIL" if broken else "pass") and "The second." in lines[2]
    assert ("CUDA error on cuda" in done.output) == broken
