"""One thread: the tests' networks are too small to share, and a busy neighbour makes two threads wait for each
other.
"""

import os

os.environ.setdefault("OMP_NUM_THREADS", "1")

import covlab  # noqa: F401  (sets the thread policy, which must happen before torch loads)
