"""Models that a loop calls."""

from collections.abc import Iterable
from dataclasses import fields, is_dataclass
from itertools import count

from torch import Tensor, nn

_numbers = count()


class CalledModel:
    """A module that the loop calls directly, not from within another module."""

    def __init__(self, module: nn.Module) -> None:
        self.number = next(_numbers)
        self.parameters = set(map(id, module.parameters()))
        modules = list(module.modules())
        self.has_batch_norm = any(isinstance(part, nn.modules.batchnorm._BatchNorm) for part in modules)
        self.differs_in_evaluation = self.has_batch_norm or any(
            isinstance(part, nn.modules.dropout._DropoutNd) and part.p > 0 for part in modules
        )
        self.trained: bool | None = None  # result of ``is_trained``; None: unknown, because the optimizers changed

    def is_trained(self, held: Iterable[Tensor]) -> bool:
        """Return whether one of its parameters is among those that optimizers hold."""
        if self.trained is None:
            self.trained = not self.parameters.isdisjoint(map(id, held))
        return self.trained


def differentiable_outputs(result: object, most: int = 8) -> list[Tensor]:
    """Return the first ``most`` tensors of a module's result through which a backward may pass."""
    found: list[Tensor] = []
    waiting = [result]
    while waiting and len(found) < most:
        item = waiting.pop(0)
        if isinstance(item, Tensor):
            if item.requires_grad and item.grad_fn is not None:
                found.append(item)
        elif isinstance(item, dict):
            waiting += item.values()
        elif isinstance(item, list | tuple):
            waiting += item
        elif is_dataclass(item) and not isinstance(item, type):
            waiting += [getattr(item, field.name) for field in fields(item)]
    return found
