"""Exercises of lesson 09, tuning the weights."""

import torch
from torch import Tensor

from covlab.course.exercises import Exercise
from covlab.course.exercises.case_parts import integer


def _trials(generator: torch.Generator) -> tuple[Tensor, Tensor, Tensor]:
    """Draw trials for which each mistake gives a different result, whichever trials are pruned."""
    count = integer(generator, 4, 8)
    # Errors of any size: no fixed penalty for a pruned trial is large enough.
    losses, held_out = (torch.rand(count, generator=generator) * 10.0 ** integer(generator, -2, 3) for _ in range(2))
    pruned = torch.zeros(count, dtype=torch.bool)
    pruned[held_out.argmin()] = True
    pruned[torch.randint(0, count, (2,), generator=generator)] = True
    losses[held_out.masked_fill(pruned, torch.inf).argmin()] = 1.5 * losses.max()
    return losses, held_out, pruned


def _lowest(values: Tensor, pruned: Tensor) -> int:
    """Return the number, from 1, of the complete trial with the lowest value."""
    return int(values.masked_fill(pruned, torch.inf).argmin()) + 1


best_trial = Exercise(
    id="09.best_trial",
    law="The best trial is the complete one with the lowest error on held-out scenes.",
    draw=_trials,
    right=lambda losses, held_out, pruned: _lowest(held_out, pruned),
    hints={
        "you choose by the weighted loss. Small weights give a small loss, and you are tuning the weights.": (
            lambda losses, held_out, pruned: int(losses.argmin()) + 1
        ),
        "you choose the complete trial with the lowest weighted loss. Can a loss judge its own weights?": (
            lambda losses, held_out, pruned: _lowest(losses, pruned)
        ),
        "a trial that was stopped early can win here, without ever finishing its run.": (
            lambda losses, held_out, pruned: int(held_out.argmin()) + 1
        ),
        "trials are counted from 1 in this exercise.": lambda losses, held_out, pruned: _lowest(held_out, pruned) - 1,
        "you count only complete trials. Which number did that trial have among all of them?": (
            lambda losses, held_out, pruned: int(held_out[~pruned].argmin()) + 1
        ),
        "you choose the worst of the complete trials.": lambda losses, held_out, pruned: _lowest(-held_out, pruned),
    },
)


def _epochs(generator: torch.Generator) -> tuple[Tensor, Tensor]:
    """Draw errors that fall, but not in every epoch: the latest is not always the lowest. In some cases the latest
    error is exactly the median.
    """
    trials, epochs = 2 * integer(generator, 1, 3) + 1, integer(generator, 4, 7)
    falling = torch.linspace(0.5, 0.3, epochs)
    others = falling + 0.3 * torch.rand(trials, epochs, generator=generator)
    seen = integer(generator, 1, epochs - 1)
    own = falling[:seen] + 0.3 * torch.rand(seen, generator=generator)
    if integer(generator, 0, 4) == 0:
        own[-1] = others[:, seen - 1].median()
    return own, others


should_stop = Exercise(
    id="09.should_stop",
    law="A trial is stopped if its latest error is above the median error of the other trials after as many epochs.",
    draw=_epochs,
    right=lambda own, others: bool(own[-1] > others[:, len(own) - 1].median()),
    hints={
        "you compare a trial that has just begun with finished ones, so every trial looks bad at first.": (
            lambda own, others: bool(own[-1] > others[:, -1].median())
        ),
        "it stops the trials that are better than the median.": lambda own, others: bool(
            own[-1] < others[:, len(own) - 1].median()
        ),
        "you compare with the mean. One very bad trial changes the mean, but it would not change the median.": (
            lambda own, others: bool(own[-1] > others[:, len(own) - 1].mean())
        ),
        "you take the median over all epochs so far. Which error did the others have after as many epochs?": (
            lambda own, others: bool(own[-1] > others[:, : len(own)].median())
        ),
        "you compare with the others' errors of all epochs, even of those that this trial has not reached yet.": (
            lambda own, others: bool(own[-1] > others.median())
        ),
        "the error after e epochs is in column e - 1.": lambda own, others: bool(
            own[-1] > others[:, len(own)].median()
        ),
        "the latest error counts, even if an earlier one of this trial was lower.": lambda own, others: bool(
            own.min() > others[:, len(own) - 1].median()
        ),
        "a trial whose error equals the median is stopped, too. Is it above the median?": lambda own, others: bool(
            own[-1] >= others[:, len(own) - 1].median()
        ),
    },
    cases=60,
)
