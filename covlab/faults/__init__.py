"""Training bugs that raise no exception, each a typed switch: ``with inject("name"):``.

A fault replaces one method with the function that has the fault's name, in every object made inside that context.
A trainer made there names its faults in ``Trainer.faults``, its log, ledger and checkpoints, and in every figure.
"""

from covlab.faults import accumulation_faults, data_faults, loss_faults, precision_faults  # noqa: F401  (each registers its faults)
from covlab.faults.switch import FAULTS, GROUPS, Fault, inject

__all__ = ["FAULTS", "GROUPS", "Fault", "inject"]
