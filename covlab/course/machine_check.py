"""Is this machine ready for the lessons, and which device does one run on?"""

import os
import platform
import shutil
import sys
from dataclasses import dataclass
from pathlib import Path

import covlab
from covlab.course import card, student_record
from covlab.course.lesson_parameters import PROFILES
from covlab.environment import lock_differences
from covlab.scenes.scenario import Scenario, preset

PYTHON = (3, 11)
MEMORY_GB = 2.0  # a lesson's kernel with torch stays below half of it
DISK_GB = 1.0  # notebooks with their pictures, and run folders


@dataclass(frozen=True)
class MachineCheck:
    """One thing a lesson needs of a machine. ok: False where something is to be done first, None where it only should
    be known.

    advice: what to do, or what it means; empty where nothing is.
    """

    what: str
    found: str
    ok: bool | None = True
    advice: str = ""


def choose_device(profile: str) -> str:
    """ "cuda" for the profile "gpu" where there is a GPU, else "cpu"; that it had to fall back is shown.

    Raises ValueError for a profile that is none.
    """
    if profile not in PROFILES:
        raise ValueError(f"profile must be one of {', '.join(PROFILES)}, got {profile!r}")
    if profile == "cpu":
        return "cpu"
    import torch

    if torch.cuda.is_available():
        return "cuda"
    card(
        "No GPU here",
        [
            (
                'You asked for the profile "gpu", and PyTorch sees no GPU on this machine: '
                "this lesson runs on the CPU. It shows the same, at the student's size."
            )
        ],
        "plain",
    )
    return "cpu"


def choose_scenario(device: str) -> Scenario:
    """What a lesson's scenes are drawn from: the student's arrays on a CPU; on a GPU the full ones, and that is
    shown.
    """
    if device == "cpu":
        return preset("student")
    scenario = preset("full")
    card(
        "Full size",
        [
            (
                f"On this GPU the lesson runs with {scenario.ris_elements} elements, {scenario.bs_antennas} antennas "
                f"and up to {scenario.max_sources} sources. The text speaks of what it shows at the student's size; "
                "your numbers stand below the cells as `measured …`."
            )
        ],
        "plain",
    )
    return scenario


def check_machine() -> list[MachineCheck]:
    """Everything a lesson needs, looked at here, in the order in which one would mend it."""
    pytorch = _torch()
    of_torch = [] if pytorch.ok is False else [_threads(), _device(), *_precisions()]
    return [_python(), pytorch, _lock(), *of_torch, _memory(), _disk(), _place()]


def show_machine() -> None:
    """Show what was found, and for each line that fails what to do."""
    from covlab import plots

    lines = check_machine()
    signs = {True: "✓\u00a0ready", None: "note", False: "✗\u00a0to\u00a0do"}
    plots.table(
        ["", "what", "found", "what to do, or to know"],
        [(signs[each.ok], each.what, each.found, each.advice) for each in lines],
    )
    failing = [each for each in lines if each.ok is False]
    if failing:
        card(
            f"{len(failing)} of {len(lines)} lines need something first",
            [f"{each.what}: {each.advice}" for each in failing],
            "open",
        )
    else:
        card("This machine is ready", ["Every lesson runs here."], "good")


def _python() -> MachineCheck:
    found, wanted = f"{platform.python_version()} ({sys.executable})", ".".join(map(str, PYTHON))
    if sys.version_info >= PYTHON:
        return MachineCheck("Python", found)
    return MachineCheck(
        "Python", found, False, f"covlab needs {wanted} or newer: install one, then `make clean` and `make lab`."
    )


def _torch() -> MachineCheck:
    try:
        import torch
    except ImportError as error:
        return MachineCheck(
            "PyTorch",
            f"not there ({error})",
            False,
            "Run `make lab`, which installs it; or `pip install -r requirements.lock`.",
        )
    return MachineCheck("PyTorch", torch.__version__)


def _lock() -> MachineCheck:
    lock = Path(covlab.__file__).parents[1] / "requirements.lock"
    if not lock.exists():
        return MachineCheck(
            "tested versions",
            "no requirements.lock here",
            None,
            "covlab was installed without a clone: versions cannot be compared.",
        )
    differences = lock_differences(lock)
    if not differences:
        return MachineCheck("tested versions", "every package is the tested one")
    return MachineCheck(
        "tested versions",
        f"{len(differences)} differ: {'; '.join(differences[:3])}{' …' if len(differences) > 3 else ''}",
        None,
        (
            "Lessons mostly run all the same, but numbers may differ: `make lab` installs the tested ones; `covlab "
            "env` lists all differences."
        ),
    )


def _threads() -> MachineCheck:
    import torch

    found = f"{os.cpu_count()} cores, {torch.get_num_threads()} thread{'s' * (torch.get_num_threads() > 1)} in torch"
    if covlab.policy_late:
        return MachineCheck(
            "threads",
            found,
            None,
            (
                "torch was loaded before covlab, so waiting threads spin: import covlab first; it may be many times "
                "faster."
            ),
        )
    if torch.get_num_threads() > 1:
        return MachineCheck(
            "threads", found, None, "One thread is faster for networks this small: `make lab` sets OMP_NUM_THREADS=1."
        )
    return MachineCheck("threads", found)


def _device() -> MachineCheck:
    import torch

    if torch.cuda.is_available():
        gigabytes = torch.cuda.get_device_properties(0).total_memory / 2**30
        return MachineCheck(
            "device",
            f"{torch.cuda.get_device_name()}, {gigabytes:.0f} GB, CUDA {torch.version.cuda}",
            True,
            'Every lesson also runs on the CPU; set profile = "gpu" to use this.',
        )
    return MachineCheck("device", "CPU", True, "All that is needed: no lesson requires a GPU.")


def _precisions() -> list[MachineCheck]:
    """A forward, backward and step of a small layer in each half precision, as lesson 04 does it."""
    import torch

    device = "cuda" if torch.cuda.is_available() else "cpu"
    lines = []
    for name, dtype in (("fp16", torch.float16), ("bf16", torch.bfloat16)):
        what = f"mixed precision, {name}"
        try:
            layer = torch.nn.Linear(8, 8, device=device)
            optimizer, scaler = (
                torch.optim.SGD(layer.parameters(), lr=0.1),
                torch.amp.GradScaler(device, enabled=name == "fp16", init_scale=128.0),
            )
            with torch.autocast(device, dtype):
                half = layer(torch.ones(8, 8, device=device))
            scaler.scale(half.float().square().mean()).backward()
            scaler.step(optimizer)
            scaler.update()
            finite = all(parameter.isfinite().all() for parameter in layer.parameters())
            works = half.dtype == dtype and finite
            lines.append(
                MachineCheck(what, f"works on {device}")
                if works
                else MachineCheck(
                    what,
                    f"gives {half.dtype}, finite: {bool(finite)}",
                    False,
                    "Install the PyTorch that requirements.lock names: `make lab`.",
                )
            )
        except RuntimeError as error:
            lines.append(
                MachineCheck(
                    what,
                    str(error).splitlines()[0],
                    False,
                    f"This PyTorch cannot do {name} on {device}; lessons 04 and 07 need it: "
                    "install the one that requirements.lock names, with `make lab`.",
                )
            )
    return lines


def _memory() -> MachineCheck:
    import psutil

    free = psutil.virtual_memory().available / 2**30
    if free >= MEMORY_GB:
        return MachineCheck("free memory", f"{free:.1f} GB")
    return MachineCheck(
        "free memory",
        f"{free:.1f} GB",
        False,
        f"A lesson wants {MEMORY_GB:g} GB: close other programs, or other notebooks' kernels (menu Kernel).",
    )


def _disk() -> MachineCheck:
    free = shutil.disk_usage(Path.cwd()).free / 2**30
    if free >= DISK_GB:
        return MachineCheck("free disk", f"{free:.1f} GB")
    return MachineCheck(
        "free disk",
        f"{free:.1f} GB",
        False,
        f"Make room: run folders and notebooks want {DISK_GB:g} GB. Old runs in runs/ and build/ can go.",
    )


def _place() -> MachineCheck:
    path = student_record.path_here()
    if path is None:
        return MachineCheck(
            "your own copy",
            f"this notebook runs in {Path.cwd()}",
            None,
            "What you solve is forgotten with the kernel; `make lab` opens your own copies, in work/, and remembers.",
        )
    return MachineCheck("your own copy", f"yes; progress in {path}")
