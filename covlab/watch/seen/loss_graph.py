"""Read from a graph what a loss is made of: what its functions are fed with, and the shapes that they combine."""

import re
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from typing import Literal

import torch
from torch import Tensor
from torch.autograd.graph import Node

from covlab.watch.seen.deferred import DeferredNumber, DeferredReads
from covlab.watch.seen.events import Forward
from covlab.watch.seen.graph import (
    inputs_of,
    is_scalar,
    output_shape,
    saved_integer,
    saved_tensor,
    sequence_number,
)
from covlab.watch.seen.location import CodeLocation
from covlab.watch.seen.loss_calls import Call, Calls, Operand

NODES_READ = 2000  # per backward that is looked at
TARGETS_READ = 32  # nodes near the root, where the targets of a loss are looked for
VIEWS_READ = 256  # between a loss and what feeds it
RESIDUALS_READ = 64  # between a reduction and a difference

_ROWS = "View|Reshape|ReshapeAlias|UnsafeView|Squeeze|Unsqueeze|Alias|Clone|ToCopy|T|Transpose|Permute|Expand"
_PARTS = "Slice|Select|Index|IndexSelect|Unbind|Split|SplitWithSizes|UnsafeSplit|AsStrided"
WHOLE_VIEW = re.compile(f"({_ROWS})Backward[0-9]")
VIEW = re.compile(f"({_ROWS}|{_PARTS})Backward[0-9]")
JOIN = re.compile("(Cat|Stack)Backward[0-9]|torch::autograd::CopySlices")
REDUCTION = re.compile("(Mean|Sum|Norm|LinalgVectorNorm)Backward[0-9]")
EVEN = re.compile("(Pow|Abs|Cosh|Norm|LinalgVectorNorm|Square)Backward[0-9]")
WEIGHTING = re.compile("(Mul|Div|Neg|ToCopy|Sqrt|Log|Log1P|View|Reshape|Sum|Mean)Backward[0-9]")
DIFFERENCE = re.compile("R?SubBackward[0-9]")
SUM_OF_TWO = re.compile("(Add|Sub|Rsub)Backward[0-9]")
FROM_PYTHON = re.compile("CompiledFunctionBackward")

Kind = Literal[
    "softmax twice", "log_softmax twice", "sigmoid before logits", "softmax before logits", "sigmoid before softmax",
    "probabilities as logits", "nll of probabilities", "kl of probabilities", "shapes of a loss", "one shape expands",
    "shapes of a difference", "softmax over samples", "constant term",
]  # fmt: skip


@dataclass
class LossFact:
    """Something that the graph of a loss shows."""

    kind: Kind
    location: CodeLocation | None  #: line of the call; without calls, of the backward
    name: str  #: of the function that was called, or of the node
    numbers_seen: list[tuple[DeferredNumber, ...]] = field(default_factory=list)  #: numbers at each look
    texts: tuple[str, ...] = ()
    first: int = 0  #: step that follows its first backward, from 1
    last: int = 0
    count: int = 0
    forwards: list[Forward] = field(default_factory=list)  #: the latest one before each look
    is_certain: bool = True  #: False: it is only a reason to look for the calls

    def values(self) -> Iterator[tuple[float, ...]]:
        """Yield the numbers of each look, if all of them could be read."""
        for numbers in self.numbers_seen:
            values = [number.value for number in numbers]
            if None not in values:
                yield tuple(value for value in values if value is not None)


def read_loss(root: Tensor, calls: Calls, reads: DeferredReads, unpacks: bool) -> list[LossFact]:
    """Return what the graph shows; with the ``calls`` that made it, also what only their operands show.

    Without ``unpacks``, read no saved tensors: a checkpoint would compute them again.
    """
    return _LossReader(root, calls, reads, unpacks).facts


def fed_by(node: Node | None, name: str, view: re.Pattern[str] = VIEW) -> Node | None:
    """Return a node of this name that the values come from, if all of them do, through views and joins only."""
    waiting, source, seen = [node], None, 0
    while waiting:
        one = waiting.pop()
        seen += 1
        if one is None or seen > VIEWS_READ:
            return None
        if one.name() == name:
            source = one
        elif (view.fullmatch(one.name()) and len(inputs_of(one)) == 1) or JOIN.fullmatch(one.name()):
            waiting += inputs_of(one)
        else:
            return None
    return source


def opaque_source(node: Node | None) -> bool:
    """Return whether the values come, through views, from a compiled function, of which no node is seen."""
    return node is not None and FROM_PYTHON.fullmatch(_before_views(node).name()) is not None


class _LossReader:
    def __init__(self, root: Tensor, calls: Calls, reads: DeferredReads, unpacks: bool) -> None:
        self.calls, self.reads, self.unpacks = calls, reads, unpacks
        self.facts: list[LossFact] = []
        self.nodes: dict[int, Node] = {}
        self.pairs_with_itself: set[int] = set()  # sequence numbers of nodes whose values are compared pairwise
        if root.grad_fn is None:
            return
        found = list(self._walk(root.grad_fn))
        self.nodes = {sequence_number(node): node for node, _ in found}
        self._note_pairs()
        readers: tuple[Callable[[Node, Call | None], None], ...] = (
            self._log_softmax,
            self._bce_with_logits,
            self._nll,
            self._kl_div,
            self._broadcast,
            self._difference,
            self._constant,
        )
        for node, call in found:
            for read in readers:
                read(node, call)

    def _walk(self, root: Node) -> Iterator[tuple[Node, Call | None]]:
        """Yield nodes, nearest to the root first, with the call that made each, as far as that is known."""
        level: list[tuple[Node, Call | None]] = [(root, self.calls.get(sequence_number(root)))]
        seen = {root}
        while level and len(seen) < NODES_READ:
            yield from level
            below: list[tuple[Node, Call | None]] = []
            for node, call in level:
                for before in inputs_of(node):
                    if before not in seen:
                        seen.add(before)
                        below.append((before, self.calls.get(sequence_number(before), call)))
            level = below

    def _add(
        self,
        kind: Kind,
        call: Call | None,
        node: Node,
        numbers: list[DeferredNumber] | None = None,
        texts: tuple[str, ...] = (),
        is_certain: bool = True,
    ) -> None:
        name = node.name().partition("Backward")[0] if call is None else call.name
        location = None if call is None else call.location
        self.facts.append(LossFact(kind, location, name, [tuple(numbers or ())], texts, is_certain=is_certain))

    # ---------------------------------------------------------------- what feeds a loss

    def _log_softmax(self, node: Node, call: Call | None) -> None:
        if node.name() != "LogSoftmaxBackward0":
            return
        source = next(iter(inputs_of(node)), None)
        if fed_by(source, "SoftmaxBackward0") is not None:
            result = saved_tensor(node, "result") if self.unpacks else None
            numbers = [] if result is None else [self._smallest_probability(result, _dim(node, result))]
            self._add("softmax twice", call, node, numbers)
        elif fed_by(source, "LogSoftmaxBackward0") is not None:
            self._add("log_softmax twice", call, node)
        elif fed_by(source, "SigmoidBackward0") is not None:
            self._add("sigmoid before softmax", call, node)
        elif opaque_source(source):
            if call is None:
                self._add("probabilities as logits", call, node, is_certain=False)
            elif call.name == "cross_entropy" and call.smallest is not None and call.sums_off is not None:
                self._add("probabilities as logits", call, node, [call.smallest, call.sums_off])

    @torch.no_grad()
    def _smallest_probability(self, result: Tensor, dim: int) -> DeferredNumber:
        """Return the smallest input of a log_softmax with this result, shifted so that the inputs of a row sum to 1.

        It is negative where the inputs are no probabilities, as after a softmax over another dimension.
        """
        wide = result.detach().double()
        return self.reads.number((wide + (1 - wide.sum(dim, keepdim=True)) / wide.shape[dim]).min())

    def _bce_with_logits(self, node: Node, call: Call | None) -> None:
        if node.name() != "BinaryCrossEntropyWithLogitsBackward0":
            return
        source = node.next_functions[0][0]
        if fed_by(source, "SigmoidBackward0") is not None:
            self._add("sigmoid before logits", call, node)
        elif fed_by(source, "SoftmaxBackward0") is not None:
            self._add("softmax before logits", call, node)

    def _nll(self, node: Node, call: Call | None) -> None:
        if not node.name().startswith("NllLoss"):
            return
        source = next(iter(inputs_of(node)), None)
        if fed_by(source, "SoftmaxBackward0") is not None:
            self._add("nll of probabilities", call, node)
            return
        log = fed_by(source, "LogSoftmaxBackward0", WHOLE_VIEW)
        if not self.unpacks:
            return
        if log is None:
            logarithm = fed_by(source, "LogBackward0", WHOLE_VIEW)
            log = logarithm and fed_by(next(iter(inputs_of(logarithm)), None), "SoftmaxBackward0", WHOLE_VIEW)
        given, target = saved_tensor(node, "self"), saved_tensor(node, "target")
        result = None if log is None else saved_tensor(log, "result")
        if log is None or result is None or given is None or target is None or given.dim() < 2 or result.dim() < 2:
            return
        if _dim(log, result) == 0:
            self._add("softmax over samples", call, node, self._rows(given.detach(), target.detach()))

    @torch.no_grad()
    def _rows(self, given: Tensor, target: Tensor) -> list[DeferredNumber]:
        """Return how far a row of log-probabilities is from summing to 1, and whether each sample is its own class."""
        off = given.double().exp().sum(1).sub(1).abs().max()
        own = torch.zeros((), device=given.device)
        if given.dim() == 2 and given.shape[0] == given.shape[1]:
            own = (target.sort().values == torch.arange(len(target), device=target.device)).all()
        return [self.reads.number(off), self.reads.number(own)]

    def _kl_div(self, node: Node, call: Call | None) -> None:
        if call is None:
            if self._looks_like_kl(node):
                self._add("kl of probabilities", call, node, is_certain=False)
            return
        if call.name != "kl_div" or self.calls.get(sequence_number(node)) is not call or call.largest is None:
            return
        given = call.operands[0].node if call.operands else None
        is_softmax = fed_by(self.nodes.get(given) if given is not None else None, "SoftmaxBackward0") is not None
        numbers = [call.largest, call.smallest or call.largest, call.sums_off or call.largest]
        if call.target_sums_off is not None:
            numbers.append(call.target_sums_off)
        self._add("kl of probabilities", call, node, numbers, ("softmax",) if is_softmax else ())

    def _looks_like_kl(self, node: Node) -> bool:
        """Return whether target · (log target - input) is computed with an input that no log_softmax made."""
        inputs = [before for before, _ in node.next_functions]
        name = node.name()
        if not (name.startswith(("Sub", "Mul")) and len(inputs) == 2 and None in inputs):
            return False
        inner = next((one for one in inputs if one is not None), None)
        if inner is None or not inner.name().startswith("Mul" if name.startswith("Sub") else "Sub"):
            return False
        given = inputs_of(inner)
        return len(given) == 1 and fed_by(given[0], "LogSoftmaxBackward0") is None

    # ---------------------------------------------------------------- shapes

    def _broadcast(self, node: Node, call: Call | None) -> None:
        """Find a loss of two shapes that expand each other."""
        if call is None:
            if node.name() == "ExpandBackward0":
                self._add("shapes of a loss", call, node, is_certain=False)
            return
        if call.name not in ("mse_loss", "l1_loss", "smooth_l1_loss", "huber_loss", "poisson_nll_loss"):
            return
        if self.calls.get(sequence_number(node)) is not call or len(call.operands) < 2:
            return
        given, target = call.operands[:2]
        shapes = str(list(given.shape)), str(list(target.shape))
        if given.shape == target.shape or 1 in (given.shape.numel(), target.shape.numel()):
            return
        both = torch.broadcast_shapes(given.shape, target.shape)
        if both.numel() > max(given.shape.numel(), target.shape.numel()):
            texts = (*shapes, str(list(both)), "pairwise" if self._is_explicit(given, target) else "")
            self._add("shapes of a loss", call, node, texts=texts)
        elif both.numel() > given.shape.numel() or both.numel() > target.shape.numel():
            self._add("one shape expands", call, node, texts=(*shapes, str(list(both))))

    def _is_explicit(self, one: Operand, other: Operand) -> bool:
        """Return whether the operands look like a comparison of all pairs that is meant."""
        made = [self.nodes.get(each.node) for each in (one, other) if each.node is not None]
        return len(one.shape) == len(other.shape) or any(
            node is not None and node.name().startswith("Unsqueeze") for node in made
        )

    def _note_pairs(self) -> None:
        """Find values of which all pairs are compared with each other, as in an energy distance or a ranking."""
        for node in self.nodes.values():
            inputs = inputs_of(node)
            shape = output_shape(node)
            if DIFFERENCE.fullmatch(node.name()) and len(inputs) == 2 and shape is not None:
                sources = [_before_views(one) for one in inputs]
                if sources[0] is sources[1] and shape.numel() > (output_shape(sources[0]) or shape).numel():
                    self.pairs_with_itself.add(sequence_number(sources[0]))

    def _difference(self, node: Node, call: Call | None) -> None:
        """Find a mean of even functions of a difference [B, B] of [B, 1] and [B]."""
        if not REDUCTION.fullmatch(node.name()) or len(inputs_of(node)) != 1:
            return
        difference = self._residual(node)
        if difference is None:
            return
        own = inputs_of(difference)
        shape, given = output_shape(difference), output_shape(own[0]) if len(own) == 1 else None
        if shape is None or given is None or shape.numel() <= given.numel() or given.numel() == 1:
            return
        call = self.calls.get(sequence_number(difference))
        if call is None:
            self._add("shapes of a difference", None, difference, is_certain=False)
            return
        operand = next((one for one in call.operands if one.requires_grad), None)
        other = next((one for one in call.operands if not one.requires_grad), None)
        if len(call.operands) != 2 or operand is None or other is None or other.checksum is None:
            return
        both = max(operand.shape.numel(), other.shape.numel())
        if shape.numel() <= both or len(operand.shape) == len(other.shape):
            return
        if {sequence_number(one) for one in (own[0], _before_views(own[0]))} & self.pairs_with_itself:
            return
        is_explicit = own[0].name().startswith(("Unsqueeze", "Index"))
        texts = (str(list(operand.shape)), str(list(other.shape)), str(list(shape)), "pairwise" if is_explicit else "")
        self._add("shapes of a difference", call, difference, [other.checksum], texts)

    def _residual(self, reduction: Node) -> Node | None:
        """Return the difference whose even function is reduced, weighted or not."""
        node, even = reduction, False
        for _ in range(RESIDUALS_READ):
            if DIFFERENCE.fullmatch(node.name()):
                return node if even and not is_scalar(node) else None
            even |= EVEN.fullmatch(node.name()) is not None
            inputs = inputs_of(node)
            if len(inputs) == 2 and node.name().startswith("Mul") and _are_same(*inputs):
                even = True
                inputs = inputs[:1]
            is_known = EVEN.fullmatch(node.name()) or WEIGHTING.fullmatch(node.name())
            if not is_known or len(inputs) != 1:
                return None
            [node] = inputs
        return None

    # ---------------------------------------------------------------- terms

    def _constant(self, node: Node, call: Call | None) -> None:
        """Find a scalar term that needs no gradient."""
        if not SUM_OF_TWO.fullmatch(node.name()) or not is_scalar(node):
            return
        inputs = [before for before, _ in node.next_functions]
        if len(inputs) != 2 or None not in inputs or not all(one is None or is_scalar(one) for one in inputs):
            return
        call = self.calls.get(sequence_number(node))
        if call is None:
            self._add("constant term", None, node, is_certain=False)
            return
        for operand in call.operands:
            if operand.value is not None and operand.made_by is not None:
                self._add("constant term", call, node, [operand.value], tuple(sorted(operand.made_by)))


def targets_of(root: Tensor) -> set[int]:
    """Return the numbers of targets of the losses near the root: the size of their dim 0."""
    level, found, seen = [] if root.grad_fn is None else [root.grad_fn], set(), 0
    while level and seen < TARGETS_READ:
        seen += len(level)
        for node in level:
            target = saved_tensor(node, "target")
            if target is not None and target.dim():
                found.add(target.shape[0])
        level = list({one for node in level for one in inputs_of(node)})
    return found


def _dim(node: Node, result: Tensor) -> int:
    """Return the dimension of a softmax, from 0."""
    return saved_integer(node, "dim") % result.dim() if result.dim() else 0


def _are_same(one: Node, other: Node) -> bool:
    """Return whether two nodes are one, or compute the same difference."""
    both_differ = DIFFERENCE.fullmatch(one.name()) and DIFFERENCE.fullmatch(other.name())
    return one is other or (both_differ is not None and one.next_functions == other.next_functions)


def _before_views(node: Node) -> Node:
    for _ in range(VIEWS_READ):
        inputs = inputs_of(node)
        if not VIEW.fullmatch(node.name()) or len(inputs) != 1:
            break
        node = inputs[0]
    return node
