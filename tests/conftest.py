"""One thread: the tests' networks are too small to share, and a busy neighbour makes two threads wait for each
other.
"""

import os
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

os.environ.setdefault("OMP_NUM_THREADS", "1")

import covlab  # noqa: F401  (sets the thread policy, which must happen before torch loads)


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
