"""Find out whether a model of sequences sees the tokens that it predicts.

If the targets are the input, shifted by one or more, then row j of the scores predicts token j + shift, and must not
depend on that token or a later one. One gradient of one column of rows to the embeddings shows it exactly.
"""

import weakref
from collections.abc import Iterable
from dataclasses import dataclass
from itertools import islice
from typing import NamedTuple

import torch
from torch import Tensor, nn
from torch.autograd.function import BackwardCFunction
from torch.autograd.graph import GradientEdge, Node

from covlab.watch.seen.events import Backward
from covlab.watch.seen.graph import (
    GRAPH_NODES_READ,
    inputs_of,
    nodes_below,
    saved,
    saved_integer,
    saved_tensor,
    sequence_number,
)
from covlab.watch.seen.location import CodeLocation

NEAR_THE_LOSS = 2000  # nodes among which losses are looked for
TOKENS_COMPARED = 16  # at least
NEGLIGIBLE = 1e-6  # gradients of what a mask hides, relative to others
LAYERS_SEEN = 64  # per window

MIXES_SAMPLES = ("BatchNorm", "InstanceNorm")  # their statistics span all positions


class Sequences(NamedTuple):
    """A call of a layer that runs along dim 0 or dim 1 of its input."""

    module: "weakref.ref[nn.Module]"
    shape: torch.Size
    batch_first: bool
    location: CodeLocation | None
    made: int | None  #: sequence number of the node of the output
    given: tuple[int, ...]  #: and of its inputs, also of a state


@dataclass(frozen=True)
class Dependence:
    """How the scores of one position depend on the input: largest gradients, relative to those of the past."""

    shift: int
    position: int  #: of the token that is predicted, from 0
    length: int
    own: float
    future: float
    past: float
    location: CodeLocation | None
    step: int


class _Targets(NamedTuple):
    """Targets that are the tokens of an embedding, shifted."""

    shift: int
    valid: Tensor  #: [B, T'] whether there is a loss
    time_first: bool


def dependences(
    root: Tensor, record: Backward, location: CodeLocation | None, layers: Iterable[Sequences]
) -> list[list[Dependence]]:
    """Return for each loss whose targets are shifted inputs how its scores depend on each such input."""
    found = []
    for loss in _losses(root):
        scores, target = saved_tensor(loss, "self"), saved_tensor(loss, "target")
        if scores is None or target is None or scores.grad_fn is None:
            continue
        graph = list(islice(nodes_below(scores.grad_fn), GRAPH_NODES_READ + 1))
        if len(graph) > GRAPH_NODES_READ:
            continue
        aligned = [
            (node, targets)
            for node in graph
            if (targets := _align(node, target, saved_integer(loss, "ignore_index"))) is not None
        ]
        if not aligned or not _is_plain(scores.grad_fn, graph, aligned, layers):
            continue
        pairs = [_dependence(scores, node, targets, record, location) for node, targets in aligned]
        found.append([one for one in pairs if one is not None])
    return found


def _losses(root: Tensor) -> list[Node]:
    waiting = [] if root.grad_fn is None else [root.grad_fn]
    seen, found = set(waiting), []
    while waiting and len(seen) < NEAR_THE_LOSS:
        node = waiting.pop(0)
        if node.name().startswith("NllLoss"):
            found.append(node)
            continue
        new = [one for one in inputs_of(node) if one not in seen]
        seen.update(new)
        waiting += new
    return found


def _align(node: Node, target: Tensor, ignored: int) -> _Targets | None:
    """Return how the targets are the tokens that ``node`` looks up, shifted, if they are."""
    if node.name() != "EmbeddingBackward0":
        return None
    ids = saved_tensor(node, "indices")
    if ids is None or ids.dim() not in (1, 2) or not target.numel():
        return None
    ids = ids.reshape(1, -1) if ids.dim() == 1 else ids
    for time_first in (False, True):
        tokens = ids.T if time_first else ids
        samples, length = tokens.shape
        if target.numel() % samples or not 2 <= target.numel() // samples <= length:
            continue
        if target.dim() == 1 and time_first:
            goal = target.view(-1, samples).T
        elif target.dim() == 1 or (not time_first and target.dim() == 3 and target.shape[:2] == (samples, 1)):
            goal = target.reshape(samples, -1)
        else:
            continue
        valid = goal != ignored
        shifts = [shift for shift in sorted({0, 1, 2, length - goal.shape[1]}) if _fits(tokens, goal, valid, shift)]
        if len(shifts) == 1:
            return _Targets(shifts[0], valid, time_first)
    return None


def _fits(tokens: Tensor, goal: Tensor, valid: Tensor, shift: int) -> bool:
    columns = min(goal.shape[1], tokens.shape[1] - shift)
    if columns < 1:
        return False
    told = valid[:, :columns]
    compared = tokens[:, shift : shift + columns] == goal[:, :columns]
    return bool(told.sum() >= TOKENS_COMPARED) and bool((compared | ~told).all())


def _is_plain(
    start: Node, graph: list[Node], aligned: list[tuple[Node, _Targets]], layers: Iterable[Sequences]
) -> bool:
    """Return whether only torch's own operations on sequences lie between the scores and the embeddings.

    A node of the loop's own may have side effects, and a summary of the whole sequence, as of an autoencoder, may
    know the future on purpose. The steps of a recurrent layer whose outputs are used are no summary.
    """
    ends = [node for node, _ in aligned]
    by_number = {sequence_number(node): node for node in graph}
    jumps = {
        one.made: [by_number[number] for number in one.given if number in by_number]
        for one in layers
        if one.made is not None
    }
    below: dict[Node, list[Node]] = {}
    waiting = [start]
    while waiting:
        node = waiting.pop()
        if node in below:
            continue
        jump = jumps.get(sequence_number(node))
        below[node] = [] if node in ends else inputs_of(node) if jump is None else jump
        waiting += below[node]
    above: dict[Node, list[Node]] = {}
    for node, inputs in below.items():
        for one in inputs:
            above.setdefault(one, []).append(node)
    on_path, waiting = set(ends), [node for node in ends if node in below]
    while waiting:
        for one in above.get(waiting.pop(), ()):
            if one not in on_path:
                on_path.add(one)
                waiting.append(one)
    if any(isinstance(node, BackwardCFunction) for node in graph):
        return False
    if any(name in node.name() for node in on_path for name in MIXES_SAMPLES):
        return False
    samples, columns = aligned[0][1].valid.shape
    length = max(saved(node, "indices").numel() // samples for node in ends)
    return all(_is_sequence(node, samples, length, columns) for node in on_path.difference(ends))


def _is_sequence(node: Node, samples: int, length: int, columns: int) -> bool:
    """Return whether a node makes something for each position of each sample, not a summary of them."""
    shape = torch.Size(node._input_metadata[0].shape)
    sizes = list(shape)
    if any(size in (samples * length, samples * columns) and shape.numel() >= 4 * size for size in sizes):
        return True
    if samples in sizes:
        sizes.remove(samples)
    if shape[-1:] == (1,) and (length in sizes or columns in sizes):
        return True  # a norm of each position
    return any(columns - 2 <= size <= 2 * length and shape.numel() >= 4 * samples * size for size in sizes)


def _dependence(
    scores: Tensor, node: Node, targets: _Targets, record: Backward, location: CodeLocation | None
) -> Dependence | None:
    """Return the gradients of the scores in the middle to the embeddings of each position."""
    valid, shift = targets.valid, targets.shift
    samples, columns = valid.shape
    ids = saved(node, "indices")
    length = ids.numel() // samples
    usable = valid.any(0).nonzero().flatten().tolist()
    usable = [one for one in usable if 1 <= one + shift < length - (shift == 0)]
    if not usable:
        return None
    column = usable[len(usable) // 2]
    weight = torch.zeros(samples, columns, device=scores.device)
    weight[:, column] = valid[:, column].float()
    classes = scores.shape[1]
    pattern = torch.cos(torch.arange(classes, device=scores.device, dtype=torch.float32))
    with torch.enable_grad():
        if scores.dim() == 2:
            rows = (weight.T if targets.time_first else weight).reshape(-1, 1)
            chosen = (scores.float() * (rows * pattern)).sum()
        else:  # [B, V, 1, T']
            chosen = (scores.float() * (weight[:, None, None, :] * pattern[None, :, None, None])).sum()
        [gradient] = torch.autograd.grad(chosen, [GradientEdge(node, 0)], retain_graph=True, allow_unused=True)
    if gradient is None:
        return None
    sizes = gradient.detach().float().abs().amax(-1).reshape(ids.shape)
    sizes = sizes.reshape(1, -1) if ids.dim() == 1 else sizes.T if targets.time_first else sizes
    by_position = sizes.amax(0).tolist()
    position = column + shift
    past = max(by_position[:position], default=0.0)
    future = max(by_position[position + 1 :], default=0.0)
    return Dependence(shift, position, length, by_position[position], future, past, location, record.steps_before + 1)
