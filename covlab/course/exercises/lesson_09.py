"""Exercises of lesson 09, tuning the weights."""

import torch
from torch import Tensor

from covlab.course.exercises import Exercise, Hint


def _trials(generator: torch.Generator) -> tuple[Tensor, Tensor, Tensor]:
    count = 7
    losses, held_out = torch.rand(count, generator=generator), torch.rand(count, generator=generator)
    pruned = torch.zeros(count, dtype=torch.bool)
    # The lowest error and the lowest loss belong to trials that were stopped or not, as chance will have it: each slip
    # must show.
    pruned[held_out.argmin()] = True
    pruned[torch.randint(0, count, (2,), generator=generator)] = True
    losses[held_out.masked_fill(pruned, 2.0).argmin()] = 1.5
    return losses, held_out, pruned


best_trial = Exercise(
    id="09.best_trial",
    law="The best trial is the complete one with the lowest error on held-out scenes.",
    draw=_trials,
    right=lambda losses, held_out, pruned: int(held_out.masked_fill(pruned, torch.inf).argmin()) + 1,
    hints=[
        Hint(
            (
                "it takes the trial with the lowest weighted loss, and the weights are what was tuned: small ones make "
                "a small loss."
            ),
            mistake=lambda losses, held_out, pruned: int(losses.argmin()) + 1,
        ),
        Hint(
            "among complete trials it takes the one with the lowest weighted loss. Who may judge a weight?",
            mistake=lambda losses, held_out, pruned: int(losses.masked_fill(pruned, torch.inf).argmin()) + 1,
        ),
        Hint(
            "a trial that was stopped early may win here, whose error was never the error of a finished run.",
            mistake=lambda losses, held_out, pruned: int(held_out.argmin()) + 1,
        ),
        Hint(
            "trials are counted from 1 in this exercise.",
            mistake=lambda losses, held_out, pruned: int(held_out.masked_fill(pruned, torch.inf).argmin()),
        ),
        Hint(
            (
                "it counts among the complete trials, after the others have been taken out. Which number did that "
                "trial have before?"
            ),
            mistake=lambda losses, held_out, pruned: int(held_out[~pruned].argmin()) + 1,
        ),
        Hint(
            "it takes the worst of the complete trials.",
            mistake=lambda losses, held_out, pruned: int(held_out.masked_fill(pruned, -torch.inf).argmax()) + 1,
        ),
    ],
)


def _epochs(generator: torch.Generator) -> tuple[Tensor, Tensor]:
    others = 0.3 + 0.6 * torch.rand(5, 6, generator=generator).sort(dim=1, descending=True).values
    seen = int(torch.randint(1, 6, (), generator=generator))
    return 0.3 + 0.6 * torch.rand(seen, generator=generator).sort(descending=True).values, others


should_stop = Exercise(
    id="09.should_stop",
    law=(
        "A trial is stopped when its error after so many epochs is above the median of the others' errors after as "
        "many."
    ),
    draw=_epochs,
    right=lambda own, others: bool(own[-1] > others[:, len(own) - 1].median()),
    hints=[
        Hint(
            "a trial that has just begun is held against others that have finished: every trial looks bad at first.",
            mistake=lambda own, others: bool(own[-1] > others[:, -1].median()),
        ),
        Hint(
            "it stops the trials that are better than the median.",
            mistake=lambda own, others: bool(own[-1] < others[:, len(own) - 1].median()),
        ),
        Hint(
            "one very bad trial moves what you compare with. The median would not care.",
            mistake=lambda own, others: bool(own[-1] > others[:, len(own) - 1].mean()),
        ),
        Hint(
            (
                "the median is taken over all epochs so far. The early ones are long past: what did the others have at "
                "this trial's age?"
            ),
            mistake=lambda own, others: bool(own[-1] > others[:, : len(own)].median()),
        ),
        Hint(
            "after e epochs the last error seen stands in column e - 1.",
            mistake=lambda own, others: bool(own[-1] > others[:, len(own)].median()),
        ),
    ],
    cases=60,
)
