"""Exercises of lesson 10, many processes."""

import math
from collections.abc import Callable, Iterable

import torch
from torch import Tensor

from covlab.course.exercises import Exercise, Mistake
from covlab.course.exercises.case_parts import integer
from covlab.course.exercises.compare import ratio


def _counts(generator: torch.Generator) -> tuple[Tensor]:
    counts = torch.randint(1, 65, (integer(generator, 2, 5),), generator=generator)
    counts[0] = counts[-1] + 3  # so that the ranks never all have the same number
    return (counts.float(),)


rank_factors = Exercise(
    id="10.rank_factors",
    law=(
        "After PyTorch has taken the mean over ranks, every scene of every rank counts the same, and the weights of "
        "all scenes sum to 1."
    ),
    draw=_counts,
    right=lambda counts: len(counts) * counts / counts.sum(),
    hints={
        "every rank counts the same, so a scene counts more on a rank that has only a few.": torch.ones_like,
        "your factors are {ratio:.2f}× the correct ones, which is 1/R. What else divides by the number of ranks?": (
            lambda counts: counts / counts.sum()
        ),
        "your factors are {ratio:.2f}× the correct ones, which is R: torch divides by the number of ranks only once.": (
            lambda counts: len(counts) ** 2 * counts / counts.sum()
        ),
        "your factors are {ratio:.2f}× the correct ones: the loss of a rank is already a mean over its scenes.": (
            Mistake(lambda counts: len(counts) * counts, lambda trial: trial.ratio > 1)
        ),
        "ranks with few scenes count more than ranks with many. But every scene should count the same.": Mistake(
            lambda counts: len(counts) * (1 / counts) / (1 / counts).sum(),
            lambda trial: math.isfinite(ratio(trial.got, 1 / trial.arguments["counts"])),
        ),
    },
)


def _deal(generator: torch.Generator) -> tuple[int, int]:
    """Draw a number of micro-batches, which may divide evenly or not, and of ranks, which may be more."""
    ranks = integer(generator, 1, 5)
    return max(1, ranks * integer(generator, 0, 3) + integer(generator, 0, ranks - 1)), ranks


def _all_hands(hand: Callable[[int, int, int], Iterable[int]], count: int, ranks: int) -> Tensor:
    """Return how many ranks have each micro-batch [count], how many each rank has, sorted [ranks], and how many numbers
    are no micro-batch [1].
    """
    hands = [[float(number) for number in hand(count, ranks, rank)] for rank in range(ranks)]
    times = torch.tensor([sum(mine.count(number) for mine in hands) for number in range(count)])
    strangers = sum(number not in range(count) for mine in hands for number in mine)
    return torch.cat([times, torch.tensor(sorted(map(len, hands))), torch.tensor([strangers])]).float()


my_micro_batches = Exercise(
    id="10.my_micro_batches",
    law="The ranks together have each micro-batch of the window once, and no rank has two more than another.",
    draw=_deal,
    run=_all_hands,
    right=lambda count, ranks, rank: range(rank, count, ranks),
    hints={
        "{count} micro-batches do not divide evenly among {ranks} ranks, and no rank has the remaining ones.": (
            lambda count, ranks, rank: range(rank * (count // ranks), (rank + 1) * (count // ranks))
        ),
        "every rank has all {count}: each scene is counted {ranks} times, and the ranks save no time.": (
            lambda count, ranks, rank: range(count)
        ),
        "some numbers are no micro-batch of this window. They are whole, and start at 0; where do they end?": Mistake(
            lambda count, ranks, rank: range(rank * -(-count // ranks), (rank + 1) * -(-count // ranks)),
            lambda trial: trial.got[-1] > 0,
        ),
        "no micro-batch is missing. But one rank has at least two more than another, so the others wait for it.": (
            Mistake(
                lambda count, ranks, rank: range(
                    rank * (count // ranks), count if rank == ranks - 1 else (rank + 1) * (count // ranks)
                ),
                lambda trial: bool((trial.got[: trial.arguments["count"]] == 1).all()),
            )
        ),
        "neighboring ranks have micro-batches in common, so some scenes are counted twice.": (
            lambda count, ranks, rank: range(rank * (count // ranks), min(count, (rank + 1) * (count // ranks) + 1))
        ),
    },
)
