"""Exercises of lesson 10, many processes."""

import math
from collections.abc import Callable, Iterable

import torch
from torch import Tensor

from covlab.course.exercises import Exercise, Hint
from covlab.course.exercises.compare import ratio


def _counts(generator: torch.Generator) -> tuple[Tensor]:
    ranks = int(torch.randint(2, 6, (), generator=generator))
    counts = torch.randint(1, 65, (ranks,), generator=generator)
    counts[0] = counts[-1] + 3  # never all the same
    return (counts.float(),)


rank_factors = Exercise(
    id="10.rank_factors",
    law=(
        "After torch has taken the mean over ranks, every scene of every rank counts the same, and the weights of "
        "all scenes sum to 1."
    ),
    draw=_counts,
    right=lambda counts: len(counts) * counts / counts.sum(),
    hints=[
        Hint(
            (
                "every rank counts the same, however few scenes it has: a scene on a nearly empty rank is worth more "
                "than the others."
            ),
            mistake=torch.ones_like,
        ),
        Hint(
            (
                "the weights are right among themselves and {ratio:.2f}× the right ones, which is 1/R: who else "
                "divides by the number of ranks?"
            ),
            mistake=lambda counts: counts / counts.sum(),
        ),
        Hint(
            "{ratio:.2f}× the right ones, which is R: torch divides by the number of ranks once, and only once.",
            mistake=lambda counts: len(counts) ** 2 * counts / counts.sum(),
        ),
        Hint(
            "{ratio:.2f}× too much: a rank's loss is already the mean over its own scenes.",
            mistake=lambda counts: len(counts) * counts,
            recognize=lambda trial: trial.ratio > 1,
        ),
        Hint(
            "ranks with few scenes count more than those with many. It is the scenes that are to count the same.",
            mistake=lambda counts: len(counts) * (1 / counts) / (1 / counts).sum(),
            recognize=lambda trial: math.isfinite(ratio(trial.got, 1 / trial.arguments["counts"])),
        ),
    ],
)


def _deal(generator: torch.Generator) -> tuple[int, int]:
    ranks = int(torch.randint(2, 5, (), generator=generator))
    # At least one each, and never the same number for all: what is left over always shows.
    count = ranks * int(torch.randint(1, 4, (), generator=generator)) + int(
        torch.randint(1, ranks, (), generator=generator)
    )
    return count, ranks


def _all_hands(hand: Callable[[int, int, int], Iterable[int]], count: int, ranks: int) -> Tensor:
    """In how many hands each micro-batch is [count], the hands' sizes from small to large [ranks], and how many numbers
    do not exist [1].
    """
    hands = [[int(number) for number in hand(count, ranks, rank)] for rank in range(ranks)]
    times = torch.tensor([sum(mine.count(number) for mine in hands) for number in range(count)])
    strangers = sum(not 0 <= number < count for mine in hands for number in mine)
    return torch.cat([times, torch.tensor(sorted(map(len, hands))), torch.tensor([strangers])]).float()


my_micro_batches = Exercise(
    id="10.my_micro_batches",
    law="Together the ranks have each micro-batch of the window once, and none has two more than another.",
    draw=_deal,
    run=_all_hands,
    right=lambda count, ranks, rank: range(rank, count, ranks),
    hints=[
        Hint(
            "{count} micro-batches do not divide evenly among {ranks} ranks, and those left over are in nobody's hand.",
            mistake=lambda count, ranks, rank: range(rank * (count // ranks), (rank + 1) * (count // ranks)),
        ),
        Hint(
            "every rank has all {count}: each scene is counted {ranks} times, and the ranks save no time.",
            mistake=lambda count, ranks, rank: range(count),
        ),
        Hint(
            "some numbers are of no micro-batch of this window. They begin with 0; where do they end?",
            mistake=lambda count, ranks, rank: range(rank * -(-count // ranks), (rank + 1) * -(-count // ranks)),
            recognize=lambda trial: trial.got[-1] > 0,
        ),
        Hint(
            (
                "every micro-batch is in one hand, but the hands are not alike: one rank has two more than another, or "
                "all that is left over, and the others wait for it."
            ),
            mistake=lambda count, ranks, rank: range(
                rank * (count // ranks), count if rank == ranks - 1 else (rank + 1) * (count // ranks)
            ),
            recognize=lambda trial: bool((trial.got[: trial.arguments["count"]] == 1).all()),
        ),
        Hint(
            "neighbouring ranks have micro-batches in common: some scenes are counted twice.",
            mistake=lambda count, ranks, rank: range(
                rank * (count // ranks), min(count, (rank + 1) * (count // ranks) + 1)
            ),
        ),
    ],
)
