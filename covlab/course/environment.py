"""Describe this machine: versions, device and threads for reports, a check for students, and the device of a lesson."""

import os
import platform
import re
import shutil
import sys
from dataclasses import dataclass
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path

import covlab
from covlab.course import card, student_record
from covlab.course.lesson_parameters import PROFILES
from covlab.scenes.scenario import Scenario, preset

REPORTED = ("covlab", "torch", "numpy", "papermill", "nbclient", "ipykernel", "ipywidgets", "jupytext")
PYTHON = (3, 11)
TRIED = (
    ("Python 3.11, torch 2.13", "everything, with the versions of requirements.lock"),
    ("Python 3.11, torch 2.13", "many of the tests, with the lowest versions of pyproject.toml"),
    ("Python 3.11, torch 2.6", "most of the tests, with the lowest versions of pyproject.toml"),
    ("Python 3.13, torch 2.6", "the tests of watch and installation, with the lowest versions of pyproject.toml"),
)
"""What covlab was tried with, on Linux without a GPU: (Python and torch, what was tried)."""
NEWEST_TRIED = {"Python": "3.11", "torch": "2.13"}
MEMORY_GB = 2.0  # a lesson's kernel with torch stays below half of it
DISK_GB = 1.0  # notebooks with their pictures, and run folders


@dataclass(frozen=True)
class MachineCheck:
    """One thing a lesson needs of a machine.

    ok: False if the student must do something first; None for a note, such as a slower setting. advice: what to do or
    to know if it is not ok.
    """

    what: str
    found: str
    ok: bool | None = True
    advice: str = ""


def provenance() -> dict:
    """Return versions, platform, device and threads of this process, as plain JSON values.

    Imports torch. `policy_late` is True if torch was loaded before covlab could set the OpenMP wait policy: covlab's
    setting then has no effect.
    """
    policy_late = covlab.policy_late
    import torch

    cuda = torch.cuda.is_available()
    return {
        "python": platform.python_version(),
        "platform": platform.platform(),
        "processor": platform.machine(),
        "cores": os.cpu_count(),
        "versions": {name: found for name in REPORTED if (found := _version(name))},
        "device": torch.cuda.get_device_name() if cuda else "cpu",
        "cuda": torch.version.cuda if cuda else None,
        "threads": torch.get_num_threads(),
        "omp_wait_policy": os.environ.get("OMP_WAIT_POLICY"),
        "policy_late": policy_late,
    }


def lock_differences(lock: Path) -> list[str]:
    """Return lines such as 'numpy: 2.3.0 installed, 2.4.6 in the lock', for packages that the lock pins.

    A local label (2.13.0+cpu) counts as the release it labels. Raises FileNotFoundError without a lock.
    """
    return [
        f"{name}: {found or 'not'} installed, {wanted} in the lock"
        for name, wanted in _pins(lock).items()
        if (found := _version(name).split("+")[0]) != wanted
    ]


def newer_than_tested(lock: Path | None = None) -> list[str]:
    """Return lines such as 'numpy: 2.5.0, tested up to 2.4.6', for what is newer than what was tried.

    Without a lock, only Python and torch are compared.
    """
    tried = NEWEST_TRIED | ({} if lock is None else _pins(lock))
    installed = {name: platform.python_version() if name == "Python" else _version(name) for name in tried}
    return [
        f"{name}: {installed[name]}, tested up to {number}"
        for name, number in tried.items()
        if _release(installed[name])[: len(_release(number))] > _release(number)
    ]


def _release(number: str) -> tuple[int, ...]:
    """Return the numbers of a release: (2, 13, 0) of "2.13.0+cpu"; () if there are none."""
    match = re.match(r"\d+(\.\d+)*", number or "")
    return tuple(map(int, match[0].split("."))) if match else ()


def _pins(lock: Path) -> dict[str, str]:
    return dict(
        line.split("==") for line in lock.read_text(encoding="utf-8").split("\n") if "==" in line and line[0] != "#"
    )


def choose_device(profile: str) -> str:
    """Return "cuda" for the profile "gpu" if there is a GPU, otherwise "cpu". Show a card if the GPU is missing.

    Raises ValueError for an unknown profile.
    """
    if profile not in PROFILES:
        raise ValueError(f"profile must be one of {', '.join(PROFILES)}, got {profile!r}")
    if profile == "cpu":
        return "cpu"
    import torch

    if torch.cuda.is_available():
        return "cuda"
    text = (
        'You asked for the profile "gpu", but PyTorch sees no GPU on this machine, so this lesson runs on the CPU. '
        "It shows the same effects, with smaller arrays."
    )
    card("No GPU here", [text], "plain")
    return "cpu"


def choose_scenario(device: str) -> Scenario:
    """Return the scenario of a lesson's scenes: `student` on a CPU, `full` on a GPU. Show a card for the latter."""
    if device == "cpu":
        return preset("student")
    scenario = preset("full")
    text = (
        f"On this GPU the lesson runs with {scenario.ris_elements} elements, {scenario.bs_antennas} antennas and up to "
        f"{scenario.max_sources} sources. The text describes the results with the smaller arrays of a CPU; "
        "figures and tables show your own."
    )
    card("Full size", [text], "plain")
    return scenario


def check_machine() -> list[MachineCheck]:
    """Check everything a lesson needs, in the order in which you would fix it."""
    pytorch = _torch()
    of_torch = [] if pytorch.ok is False else [_threads(), _device(), *_precisions()]
    return [_python(), pytorch, _lock(), *of_torch, _memory(), _disk(), _own_copy()]


def show_machine() -> None:
    """Show what was found, and what to do about each line that fails."""
    from covlab import plots

    lines = check_machine()
    signs = {True: "✓\u00a0ready", None: "note", False: "✗\u00a0to\u00a0do"}
    plots.table(
        ["", "what", "found", "what to do, or to know"],
        [(signs[each.ok], each.what, each.found, "" if each.ok else each.advice) for each in lines],
    )
    failing = [f"{each.what}: {each.advice}" for each in lines if each.ok is False]
    if failing:
        card(f"{len(failing)} of {len(lines)} lines need something first", failing, "open")
    else:
        card("This machine is ready", ["Every lesson runs here."], "good")


def _python() -> MachineCheck:
    advice = f"covlab needs {'.'.join(map(str, PYTHON))} or newer: install it, then run `make clean` and `make lab`."
    found = f"{platform.python_version()} ({sys.executable})"
    return MachineCheck("Python", found, sys.version_info >= PYTHON, advice)


def _torch() -> MachineCheck:
    try:
        import torch
    except ImportError as error:
        advice = "Run `make lab`, which installs it; or `pip install -r requirements.lock`."
        return MachineCheck("PyTorch", f"not installed ({error})", False, advice)
    return MachineCheck("PyTorch", torch.__version__)


def _lock() -> MachineCheck:
    lock = Path(covlab.__file__).parents[1] / "requirements.lock"
    if not lock.exists():
        advice = "covlab was installed without a clone, so versions cannot be compared."
        return MachineCheck("tested versions", "no requirements.lock here", None, advice)
    found, differences = "every package is the tested one", lock_differences(lock)
    if differences:
        found = f"{len(differences)} differ: {'; '.join(differences[:3])}{' …' if len(differences) > 3 else ''}"
    advice = (
        "Lessons usually run, but numbers may differ: `make lab` installs these versions, `covlab env` lists them all."
    )
    return MachineCheck("tested versions", found, not differences or None, advice)


def _threads() -> MachineCheck:
    import torch

    threads = torch.get_num_threads()
    found = f"{os.cpu_count()} cores, {threads} thread{'s' * (threads > 1)} in torch"
    advice = "One thread is faster for networks this small: `make lab` sets OMP_NUM_THREADS=1."
    if covlab.policy_late:
        advice = (
            "torch was loaded before covlab, so waiting threads spin: import covlab first, which can be much faster."
        )
    return MachineCheck("threads", found, (threads == 1 and not covlab.policy_late) or None, advice)


def _device() -> MachineCheck:
    import torch

    if not torch.cuda.is_available():
        return MachineCheck("device", "CPU, which is enough: no lesson requires a GPU")
    gigabytes = torch.cuda.get_device_properties(0).total_memory / 2**30
    found = f"{torch.cuda.get_device_name()}, {gigabytes:.0f} GB, CUDA {torch.version.cuda}"
    return MachineCheck("device", f'{found}; set profile = "gpu" to use it, although every lesson also runs on the CPU')


def _precisions() -> list[MachineCheck]:
    """Try forward, backward and a step of a small layer in each half precision, as in lesson 04."""
    import torch

    device = "cuda" if torch.cuda.is_available() else "cpu"
    checks = []
    for name, dtype in (("fp16", torch.float16), ("bf16", torch.bfloat16)):
        try:
            layer = torch.nn.Linear(8, 8, device=device)
            optimizer = torch.optim.SGD(layer.parameters(), lr=0.1)
            scaler = torch.amp.GradScaler(device, enabled=name == "fp16", init_scale=128.0)
            with torch.autocast(device, dtype):
                half = layer(torch.ones(8, 8, device=device))
            scaler.scale(half.float().square().mean()).backward()
            scaler.step(optimizer)
            scaler.update()
            finite = all(bool(parameter.isfinite().all()) for parameter in layer.parameters())
            works = half.dtype == dtype and finite
            found = f"works on {device}" if works else f"gives {half.dtype}, finite: {finite}"
        except RuntimeError as error:
            works, found = False, str(error).splitlines()[0]
        advice = (
            f"This PyTorch cannot compute in {name} on {device}, which lessons 04 and 07 need: install the version in "
            "requirements.lock with `make lab`."
        )
        checks.append(MachineCheck(f"mixed precision, {name}", found, works, advice))
    return checks


def _memory() -> MachineCheck:
    import psutil

    free = psutil.virtual_memory().available / 2**30
    advice = f"A lesson needs {MEMORY_GB:g} GB: close other programs, or other notebooks' kernels (menu Kernel)."
    return MachineCheck("free memory", f"{free:.1f} GB", free >= MEMORY_GB, advice)


def _disk() -> MachineCheck:
    free = shutil.disk_usage(Path.cwd()).free / 2**30
    advice = f"Run folders and notebooks need {DISK_GB:g} GB: delete old runs in runs/ and build/."
    return MachineCheck("free disk", f"{free:.1f} GB", free >= DISK_GB, advice)


def _own_copy() -> MachineCheck:
    path = student_record.path_here()
    found = f"yes; progress in {path}" if path else f"this notebook runs in {Path.cwd()}"
    advice = "Progress here is lost when the kernel ends. `make lab` opens your own copies, in work/, and keeps it."
    return MachineCheck("your own copy", found, bool(path) or None, advice)


def _version(name: str) -> str:
    """Return the installed version of a package, or "" if it is not installed."""
    try:
        return version(name)
    except PackageNotFoundError:
        return ""
