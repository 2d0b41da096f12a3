"""Exercises of lesson 10, many processes."""

import math
from collections.abc import Callable, Iterable
from typing import Any

import torch
from torch import Tensor

from covlab.course.exercises import Exercise, Mistake
from covlab.course.exercises.case_parts import integer
from covlab.course.exercises.compare import ratio, relative_error


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
        "your factors are {ratio:.2f}× the correct ones: PyTorch divides by R, so you should not divide by R again.": (
            lambda counts: counts / counts.sum() / len(counts)
        ),
        "you always multiply by 2, but there are more ranks in some cases.": lambda counts: 2 * counts / counts.sum(),
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


TIMES, SIZES = "ranks that have each micro-batch", "micro-batches of each rank"
STRANGERS = "numbers that no micro-batch has"


def _deal(generator: torch.Generator) -> tuple[int, int]:
    """Draw a number of micro-batches, which may divide evenly or not, and of ranks, which may be more."""
    ranks = integer(generator, 1, 5)
    return max(1, ranks * integer(generator, 0, 3) + integer(generator, 0, ranks - 1)), ranks


def _all_hands(hand: Callable[[int, int, int], Iterable[int]], count: int, ranks: int) -> dict[str, Any]:
    """Return how many ranks have each micro-batch [count], how many each rank has, the fewest first [ranks], and how
    many numbers are no micro-batch. The keys are shown to the student.
    """
    hands = [[float(number) for number in hand(count, ranks, rank)] for rank in range(ranks)]
    return {
        TIMES: torch.tensor([sum(mine.count(number) for mine in hands) for number in range(count)]),
        SIZES: torch.tensor(sorted(map(len, hands))),
        STRANGERS: sum(number not in range(count) for mine in hands for number in mine),
    }


my_micro_batches = Exercise(
    id="10.my_micro_batches",
    law="The ranks together have each micro-batch of the window once, and no rank has two more than another.",
    draw=_deal,
    run=_all_hands,
    compare=lambda got, right: float(relative_error(got, right) > 0),
    right=lambda count, ranks, rank: range(rank, count, ranks),
    hints={
        "{ranks} ranks cannot share {count} evenly, and no rank has the remaining micro-batches.": (
            lambda count, ranks, rank: range(rank * (count // ranks), (rank + 1) * (count // ranks))
        ),
        "every rank has all {count}: each scene is counted {ranks} times, and the ranks save no time.": (
            lambda count, ranks, rank: range(count)
        ),
        "you return a number that no micro-batch has. Valid numbers are whole, at least 0, and below {count}.": (
            Mistake(
                lambda count, ranks, rank: range(rank * -(-count // ranks), (rank + 1) * -(-count // ranks)),
                lambda trial: trial.got[STRANGERS] > 0,
            )
        ),
        "no micro-batch is missing. But one rank has at least two more than another, so the others wait for it.": (
            Mistake(
                lambda count, ranks, rank: range(
                    rank * (count // ranks), count if rank == ranks - 1 else (rank + 1) * (count // ranks)
                ),
                lambda trial: bool((trial.got[TIMES] == 1).all()),
            )
        ),
        "some micro-batches belong to several ranks, so their scenes are counted more than once.": Mistake(
            lambda count, ranks, rank: range(rank * (count // ranks), min(count, (rank + 1) * (count // ranks) + 1)),
            lambda trial: bool((trial.got[TIMES] > 1).any()),
        ),
        "some micro-batches belong to no rank, so their scenes are never used.": Mistake(
            lambda count, ranks, rank: range(rank, count - 1, ranks), lambda trial: bool((trial.got[TIMES] == 0).any())
        ),
    },
)
