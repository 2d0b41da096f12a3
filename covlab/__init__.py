"""covlab: a course and workbench about training bugs that raise no exception.

Importing it loads neither torch nor any other room; import those by name.
"""

import os
import sys

# OpenMP reads this once, when torch loads it. With both cores busy, waiting threads that spin
# instead of sleeping make a small matrix product about forty times slower; no number changes.
policy_late = "OMP_WAIT_POLICY" not in os.environ and "torch" in sys.modules
os.environ.setdefault("OMP_WAIT_POLICY", "PASSIVE")

__version__ = "0.1.0"
