"""Read an autograd graph: its nodes, its leaves, and the terms of a loss.

Hooks on the nodes read d(root)/d(term) while the backward runs.
"""

import re
from collections.abc import Callable, Iterator
from itertools import islice
from typing import Any, cast

import torch
from torch import Tensor
from torch.autograd.graph import Node

from covlab.watch.seen.deferred import DeferredNumber, DeferredReads
from covlab.watch.seen.events import Backward, LossTerm
from covlab.watch.seen.isolation import hidden_from_torch

SCALING = re.compile(
    "(Mul|Div|Neg|ToCopy|View|Reshape|ReshapeAlias|UnsafeView|Squeeze|Unsqueeze|Alias|Clone|Mean|Sum)Backward[0-4]"
)
SUM = re.compile("(Add|Sub|Rsub)Backward[0-2]")
NODES_READ = 64  # per backward
GRAPH_NODES_READ = 20_000  # where all leaves are looked for
INNER_NODES_READ = 8  # per term
LOSS_SCALE = "covlab.watch.loss_scale"  # in a node's metadata: what the GradScaler multiplied by


def metadata(node: Node) -> dict[str, Any]:
    return cast(dict[str, Any], node.metadata)  # torch annotates this property as a method


def output_shape(node: Node) -> torch.Size | None:
    """Return the shape of the node's output, if it has exactly one."""
    made = node._input_metadata
    return torch.Size(made[0].shape) if len(made) == 1 else None


def saved(node: Node, name: str) -> Any:
    """Return what the node saved for its backward under this name."""
    return getattr(node, f"_saved_{name}", None)


def saved_tensor(node: Node, name: str) -> Tensor | None:
    found = saved(node, name)
    return found if isinstance(found, Tensor) else None


def saved_integer(node: Node, name: str) -> int:
    """Return a saved whole number: torch shows a negative one as an unsigned one."""
    number = int(saved(node, name))
    return number - 2**64 if number >= 2**63 else number


def is_scalar(node: Node) -> bool:
    shape = output_shape(node)
    return shape is not None and shape.numel() == 1


def sequence_number(node: Node) -> int:
    """Return a number that no other node of a forward in this thread has."""
    return int(node._sequence_nr())


def inputs_of(node: Node) -> list[Node]:
    return [before for before, _ in node.next_functions if before is not None]


def scales_a_scalar(node: Node) -> bool:
    """Return whether the node multiplies one scalar by a constant."""
    inputs = inputs_of(node)
    return SCALING.fullmatch(node.name()) is not None and len(inputs) == 1 and is_scalar(inputs[0])


def adds_scalars(node: Node) -> bool:
    inputs = inputs_of(node)
    return SUM.fullmatch(node.name()) is not None and bool(inputs) and all(map(is_scalar, inputs))


def read_loss_terms(root: Tensor, backward: Backward, reads: DeferredReads) -> list[Callable[[], None]]:
    """Add the loss terms to ``backward``, with values once it runs. Return the functions that remove the hooks.

    Walk from the root through scalars as long as they are only added and scaled. A term is the first node below
    that makes a scalar of something larger. Shapes: the root is [] or [1]; every derivative is a scalar.
    """
    node = root.grad_fn
    if node is None or not is_scalar(node):
        return []
    reader = _GraphReader(backward, reads)
    reader.read(node)
    return reader.removals


class _GraphReader:
    def __init__(self, backward: Backward, reads: DeferredReads) -> None:
        self.backward, self.reads = backward, reads
        self.removals: list[Callable[[], None]] = []

    def read(self, node: Node) -> None:
        while scales_a_scalar(node):
            self._note_loss_scale(node)
            node = inputs_of(node)[0]
        self.backward.is_weighted_sum = True
        self.backward.outer_derivative = self._derivative(node)
        waiting, seen = [node], 0
        while waiting:
            node = waiting.pop()
            seen += 1
            self._note_loss_scale(node)
            inputs = inputs_of(node)
            if seen < NODES_READ and (adds_scalars(node) or scales_a_scalar(node)):
                waiting += inputs
            elif seen >= NODES_READ or all(map(is_scalar, inputs)):
                self.backward.is_weighted_sum = False  # a nonlinear function of scalars has no constant factor
            else:
                self.backward.terms.append(loss_term(node, self._derivative(node), self.reads))

    def _note_loss_scale(self, node: Node) -> None:
        scale = metadata(node).get(LOSS_SCALE)
        if scale is not None and self.backward.loss_scale is None:
            self.backward.loss_scale = self.reads.number(scale)

    def _derivative(self, node: Node) -> DeferredNumber:
        """Return d(root)/d(output of the node), which is known once the backward runs."""
        number, reads = DeferredNumber(), self.reads

        @hidden_from_torch
        def hook(gradients: tuple[Tensor | None, ...]) -> None:
            if gradients[0] is not None:
                reads.number(gradients[0], number)

        self.removals.append(node.register_prehook(hook).remove)
        return number


def nodes_below(*roots: Node) -> Iterator[Node]:
    """Yield the roots and all nodes below them, each once."""
    waiting, seen = list(roots), set[Node]()
    while waiting:
        node = waiting.pop()
        if node not in seen:
            seen.add(node)
            yield node
            waiting += inputs_of(node)


def leaves(*tensors: Tensor) -> list[Tensor]:
    """Return what gets a gradient from a backward of the tensors, as far as their graphs are read."""
    roots = [one.grad_fn for one in tensors if one.grad_fn is not None]
    found = (getattr(node, "variable", None) for node in islice(nodes_below(*roots), GRAPH_NODES_READ))
    return [leaf for leaf in found if leaf is not None]


def wants_input_gradient(inputs: tuple[object, ...]) -> bool:
    """Return whether an input is, or was made in a few operations of, a tensor that wants its own gradient."""
    for one in inputs:
        if not isinstance(one, Tensor) or not one.requires_grad:
            continue
        if one.grad_fn is None:
            return True
        waiting, seen = [one.grad_fn], 0
        while waiting and seen < INNER_NODES_READ:
            node = waiting.pop(0)
            seen += 1
            leaf = getattr(node, "variable", None)
            if leaf is not None and not isinstance(leaf, torch.nn.Parameter):
                return True
            waiting += inputs_of(node)
    return False


def loss_term(node: Node, derivative: DeferredNumber, reads: DeferredReads) -> LossTerm:
    """Return what kind of reduction the node is, and how many elements it reduces."""
    name, below, one = node.name(), inputs_of(node)[0], DeferredNumber(1.0)
    shape, reduction = output_shape(below), saved(node, "reduction")  # torch's loss functions save 1: mean, 2: sum
    if name.startswith("NllLoss") and reduction in (1, 2):
        classes = shape[1] if shape is not None and len(shape) > 1 else 0
        if reduction == 1:
            targets = None if saved(node, "weight") is not None else reads.number(saved(node, "total_weight"))
            return LossTerm("mean", derivative, one, targets, classes=classes)
        # The sum of its class weights counts, not the number of samples.
        return LossTerm("sum", derivative, reads.number(saved(node, "total_weight")), classes=classes)
    if name.startswith("DotBackward"):
        other = saved(node, "tensor") if node.next_functions[0][0] is not None else saved(node, "self")
        return LossTerm("sum", derivative, reads.number(other.detach().sum()))
    is_plain = shape is not None and name.startswith(("MeanBackward", "SumBackward"))
    if reduction == 1 or (is_plain and name.startswith("Mean")):
        term = LossTerm("mean", derivative, one)
    elif shape is not None and (reduction == 2 or is_plain):
        elements = DeferredNumber(float(shape.numel()))
        may_be_mean_of_sums = len(shape) > 1 and shape[0] != shape.numel()  # mean over the first axis, sum over others
        term = LossTerm("sum", derivative, elements, ambiguous=may_be_mean_of_sums)
    else:
        return LossTerm("other", derivative, one)
    if is_plain:
        read_element_factors(below, term, reads)
    return term


def read_element_factors(node: Node, term: LossTerm, reads: DeferredReads) -> None:
    """Find the factors that scaled every element before the reduction, or that scaled elements one by one."""
    for _ in range(INNER_NODES_READ):
        name, inputs = node.name(), inputs_of(node)
        if not name.startswith(("Mul", "Div", "Neg", "View", "Reshape", "Squeeze", "ToCopy")) or len(inputs) != 1:
            term.ambiguous |= name.startswith(("Mul", "Div", "Where", "Index", "MaskedFill", "MaskedSelect"))
            return
        if name.startswith(("Mul", "Div")):
            factor = saved(node, "other")
            if isinstance(factor, Tensor) and factor.numel() == 1:
                term.element_factors.append((name.startswith("Div"), reads.number(factor)))
            elif isinstance(factor, int | float):
                term.element_factors.append((name.startswith("Div"), DeferredNumber(float(factor))))
            else:
                term.ambiguous = True
        node = inputs[0]
