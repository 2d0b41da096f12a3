"""The museum: training bugs that raise no exception, each a typed switch.

A fault replaces one method by the function that bears the fault's name, for what is made inside
``with inject("name"):``. Such a trainer says so in ``faults``, in its log, ledger and checkpoints, and on every
picture drawn from it. The exhibits stand in four rooms, by what they spoil.
"""

from covlab.faults import accumulation_faults, data_faults, loss_faults, precision_faults  # noqa: F401  (each registers its exhibits)
from covlab.faults.switch import FAULTS, GROUPS, Fault, inject

__all__ = ["FAULTS", "GROUPS", "Fault", "inject"]
