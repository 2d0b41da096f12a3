"""Models that a loop calls."""

from collections.abc import Hashable, Iterable, Iterator, Mapping
from dataclasses import fields, is_dataclass
from itertools import count

import torch
from torch import Tensor, nn
from torch.multiprocessing.reductions import StorageWeakRef

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
        self.drops_in_evaluation = False  # dropout was seen to drop in evaluation mode
        self.sampled_input: Hashable = None  # ``identity`` of the last input in training mode without gradients
        self.samples_drawn = 0  # how often in a row it was that input
        self.trained: bool | None = None  # result of ``is_trained``; None: unknown, because the optimizers changed

    def is_trained(self, held: Iterable[Tensor]) -> bool:
        """Return whether one of its parameters is among those that optimizers hold."""
        if self.trained is None:
            self.trained = not self.parameters.isdisjoint(map(id, held))
        return self.trained

    def count_samples(self, inputs: Tensor | None) -> int:
        """Return how many calls in a row had the very same input."""
        same = identity(inputs)
        self.samples_drawn = self.samples_drawn + 1 if same is not None and same == self.sampled_input else 1
        self.sampled_input = same
        return self.samples_drawn


def identity(tensor: Tensor | None) -> Hashable:
    """Return what is equal for tensors of the same, unchanged memory, or None if that cannot be known."""
    if tensor is None or tensor.layout != torch.strided or tensor.is_inference():
        return None
    try:
        storage = StorageWeakRef(tensor.untyped_storage())  # its address is not used again while this is kept
    except (NotImplementedError, RuntimeError):  # a tensor without memory of its own, such as in torch.func
        return None
    return storage, tensor.storage_offset(), tensor.shape, tensor.stride(), tensor._version


def tensors_in(items: Iterable[object], depth: int = 3) -> Iterator[Tensor]:
    """Yield the tensors among the items, and in lists and tuples among them."""
    for item in items:
        if isinstance(item, Tensor):
            yield item
        elif isinstance(item, list | tuple) and depth:
            yield from tensors_in(item, depth - 1)


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


def first_samples(inputs: tuple[object, ...]) -> Tensor | None:
    """Return the first tensor of a module's inputs that can be one of samples [n, ...]; the first tensor if none can.

    Return None for the nodes of a graph: those of the evaluated samples are among those of the training.
    """
    tensors = [one for item in inputs for one in _items(item) if isinstance(one, Tensor)]
    if any(_joins_nodes(one) for one in tensors[1:]):
        return None
    return next((one for one in tensors if one.dim() > 1), tensors[0] if tensors else None)


def _items(item: object) -> Iterable[object]:
    if isinstance(item, Mapping):
        return item.values()
    return item if isinstance(item, list | tuple) else [item]


def _joins_nodes(tensor: Tensor) -> bool:
    """Return whether a tensor is a list of edges [2, n] or a sparse matrix of them."""
    is_list = tensor.dim() == 2 and tensor.shape[0] == 2 and tensor.dtype == torch.int64
    return is_list or tensor.layout != torch.strided
