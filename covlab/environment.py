"""What a run depends on: versions, device, threads. `covlab env` prints it, every report stores it."""

import os
import platform
from importlib.metadata import PackageNotFoundError, distributions, version
from pathlib import Path

import covlab

REPORTED = ("covlab", "torch", "numpy", "papermill", "nbclient", "ipykernel", "ipywidgets", "jupytext")


def provenance() -> dict:
    """Versions, platform, device and threads of this process, as plain JSON values.

    Imports torch. `policy_late` is True when torch was loaded before covlab could set the OpenMP
    wait policy: covlab's setting then has no effect.
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
    """Lines such as 'numpy: 2.3.0 installed, 2.4.6 in the lock', for packages the lock pins.

    A local label (2.13.0+cpu) counts as the release it labels.
    Raises FileNotFoundError when there is no lock.
    """
    installed = {_normal(d.name): d.version for d in distributions()}
    pinned = dict(line.split("==") for line in lock.read_text().split("\n") if "==" in line and line[0] != "#")
    return [
        f"{name}: {found or 'not'} installed, {wanted} in the lock"
        for name, wanted in pinned.items()
        if (found := installed.get(_normal(name), "").split("+")[0]) != wanted
    ]


def _normal(name: str) -> str:
    return name.lower().replace("_", "-").replace(".", "-")


def _version(name: str) -> str | None:
    try:
        return version(name)
    except PackageNotFoundError:
        return None
