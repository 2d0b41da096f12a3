"""How much each loss counts in a backward: d(root)/d(loss), read at the nodes of the graph while it runs."""

from collections.abc import Callable

import torch
from torch import Tensor
from torch.autograd.graph import Node

from covlab.watch.aside import unseen
from covlab.watch.records import Backward, Number, Pending, Term

SCALINGS = frozenset(
    f"{name}Backward{number}"
    for name in (
        "Mul",
        "Div",
        "Neg",
        "ToCopy",
        "View",
        "Reshape",
        "ReshapeAlias",
        "UnsafeView",
        "Squeeze",
        "Unsqueeze",
        "Alias",
        "Clone",
        "Mean",
        "Sum",
    )
    for number in range(5)
)
SUMS = frozenset(f"{name}Backward{number}" for name in ("Add", "Sub", "Rsub") for number in range(3))
REDUCTION = {1: "mean", 2: "sum"}  # what torch.nn.functional calls them, as its nodes save it
LIMIT = 64  # nodes that are looked at, a backward
SCALE = "covlab.watch.scale"  # in a node's metadata: what the scaler multiplied by


def shape(node: Node) -> torch.Size | None:
    """Of what the node made, if it made one thing."""
    made = node._input_metadata
    return torch.Size(made[0].shape) if len(made) == 1 else None


def is_scalar(node: Node) -> bool:
    size = shape(node)
    return size is not None and size.numel() == 1


def inputs(node: Node) -> list[Node]:
    return [before for before, _ in node.next_functions if before is not None]


def read(root: Tensor, backward: Backward, pending: Pending) -> list[Callable[[], None]]:
    """Fill ``backward`` with its terms when it runs. Returns what takes the hooks off again.

    From the root through scalars, as far as they are only added and scaled; a term is the first node below
    that makes a scalar of something larger. Shapes: the root is [] or [1]; every weight is a scalar.
    """
    node = root.grad_fn
    if node is None or not is_scalar(node):
        return []
    hooks = []

    def probe(at: Node) -> Number:
        number = Number()

        @unseen
        def hook(gradients):
            if gradients[0] is not None:
                pending.fill(number, gradients[0])

        hooks.append(at.register_prehook(hook).remove)
        return number

    def scale_of(at: Node) -> None:
        scale = at.metadata.get(SCALE)
        if scale is not None and backward.scale is None:
            backward.scale = pending.number(scale)

    while True:  # the root's own scalings
        scale_of(node)
        before = inputs(node)
        if node.name() in SCALINGS and len(before) == 1 and is_scalar(before[0]):
            node = before[0]
        else:
            break
    backward.linear = True
    backward.top = probe(node)
    backward.path.append(backward.top)
    waiting, seen = [node], 0
    while waiting:
        node = waiting.pop()
        seen += 1
        scale_of(node)
        before = inputs(node)
        name = node.name()
        adds = name in SUMS and all(is_scalar(other) for other in before)
        scales = name in SCALINGS and len(before) == 1 and is_scalar(before[0])
        if (adds or scales) and before and seen < LIMIT:
            waiting += before
            backward.path.append(probe(node))
        elif seen >= LIMIT or not before or all(is_scalar(other) for other in before):
            backward.linear = False  # a scalar made of scalars in another way: its weight is no constant
        else:
            backward.terms.append(term(node, name, probe(node), pending))
    return hooks


def term(node: Node, name: str, weight: Number, pending: Pending) -> Term:
    """What kind of reduction the node is, and how much it reduces."""
    one = Number(1.0)
    reduction = getattr(node, "_saved_reduction", None)
    below = inputs(node)[0]
    size = shape(below)
    if reduction in REDUCTION:
        classes = size[1] if name.startswith("NllLoss") and len(size) > 1 else 0
        if reduction == 1:
            return Term("mean", weight, one, classes=classes)
        weighed = name.startswith("NllLoss")
        count = pending.number(node._saved_total_weight) if weighed else Number(float(size.numel()))
        return Term("sum", weight, count, classes=classes, masked=not weighed and per_sample(size))
    if name.startswith("DotBackward"):
        other = node._saved_tensor if node.next_functions[0][0] is not None else node._saved_self
        return Term("sum", weight, pending.number(other.detach().sum()))
    if name.startswith(("MeanBackward", "SumBackward")) and size is not None:
        mean = name.startswith("Mean")
        found = (
            Term("mean", weight, one)
            if mean
            else Term("sum", weight, Number(float(size.numel())), masked=per_sample(size))
        )
        look_inside(below, found, pending)
        return found
    return Term("other", weight, one)


def per_sample(size: torch.Size) -> bool:
    """May a sum over all be meant as a mean over the first axis, of sums over the others?"""
    return len(size) > 1 and size[0] != size.numel()


def look_inside(node: Node, found: Term, pending: Pending) -> None:
    """Elements may have been scaled before they were reduced, all alike or one by one."""
    for _ in range(8):
        name, before = node.name(), inputs(node)
        if not name.startswith(("Mul", "Div", "Neg", "View", "Reshape", "Squeeze", "ToCopy")) or len(before) != 1:
            found.masked |= name.startswith(("Mul", "Div", "Where", "Index", "MaskedFill", "MaskedSelect"))
            return
        if name.startswith(("Mul", "Div")):
            factor = getattr(node, "_saved_other", None)
            if isinstance(factor, torch.Tensor) and factor.numel() == 1:
                found.inside.append((name.startswith("Div"), pending.number(factor)))
            elif isinstance(factor, int | float):
                found.inside.append((name.startswith("Div"), Number(float(factor))))
            else:
                found.masked = True
        node = before[0]
