"""What all tests have in common: they take the same time and the same way on an idle machine and on a busy one.

One thread: the tests' networks are too small to share, and a busy neighbor makes two threads wait for each other.
"""

import os
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest
from hypothesis import HealthCheck, settings

os.environ.setdefault("OMP_NUM_THREADS", "1")

import covlab  # noqa: F401  (sets the thread policy, which must happen before torch loads)

# Hypothesis fails a test whose examples take long, as they do on a busy machine.
settings.register_profile("untimed", deadline=None, suppress_health_check=[HealthCheck.too_slow])
settings.load_profile("untimed")


@pytest.fixture(scope="session", autouse=True)
def no_wait_for_the_disk() -> Iterator[None]:
    """Let no test wait until its files are on the disk. The tests of a power loss look at the calls of fsync."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(os, "fsync", lambda descriptor: None)
        yield


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
