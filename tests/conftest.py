"""What all tests have in common: they take the same time and the same way on an idle machine and on a busy one.

One thread: the tests' networks are too small to share, and a busy neighbor makes two threads wait for each other.
"""

import gc
import os
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest
from hypothesis import HealthCheck, settings

os.environ.setdefault("OMP_NUM_THREADS", "1")
os.environ.setdefault("CUBLAS_WORKSPACE_CONFIG", ":4096:8")  # without it, cuBLAS is not deterministic

import covlab  # noqa: F401  (sets the thread policy, which must happen before torch loads)

# isort: split
import torch

# Hypothesis fails a test whose examples take long, as they do on a busy machine.
settings.register_profile("untimed", deadline=None, suppress_health_check=[HealthCheck.too_slow])
settings.load_profile("untimed")


def pytest_collection_finish() -> None:
    """Hide modules and tests from the garbage collector: many tests call it, and so does the watch."""
    gc.collect()
    gc.freeze()


@pytest.fixture(scope="session", autouse=True)
def no_wait_for_the_disk() -> Iterator[None]:
    """Let no test wait until its files are on the disk. The tests of a power loss look at the calls of fsync."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(os, "fsync", lambda descriptor: None)
        yield


NO_GPU = "PyTorch sees no GPU here, so nothing of this ran on CUDA"


@pytest.fixture(
    params=[
        "cpu",
        pytest.param("cuda", marks=[pytest.mark.gpu, pytest.mark.skipif(not torch.cuda.is_available(), reason=NO_GPU)]),
    ]
)
def device(request: pytest.FixtureRequest) -> Iterator[str]:
    """Return each device on which a law must hold. On CUDA, compute without TF32, and add in the same order."""
    tf32 = torch.backends.cuda.matmul.allow_tf32, torch.backends.cudnn.allow_tf32
    deterministic = torch.are_deterministic_algorithms_enabled(), torch.is_deterministic_algorithms_warn_only_enabled()
    torch.backends.cuda.matmul.allow_tf32 = torch.backends.cudnn.allow_tf32 = False
    torch.use_deterministic_algorithms(request.param == "cuda", warn_only=True)
    yield request.param
    torch.backends.cuda.matmul.allow_tf32, torch.backends.cudnn.allow_tf32 = tf32
    torch.use_deterministic_algorithms(deterministic[0], warn_only=deterministic[1])


@pytest.fixture(scope="module")
def server() -> Iterator[subprocess.Popen[str]]:
    """Return a process that runs scripts under the watch in forked children: it loads torch once for all of them."""
    script = str(Path(__file__).with_name("loop_server.py"))
    with subprocess.Popen(
        [sys.executable, script], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
    ) as process:
        yield process
        assert process.stdin is not None
        process.stdin.close()
