# ---
# jupyter:
#   kernelspec:
#     display_name: Python 3
#     language: python
#     name: python3
# ---

# %% [markdown]
# # 10 · Many processes
#
# **Question.** When do two processes take the step of one?
#
# With more than one process (a *rank* each), every rank has its own part of a window: the micro-batches of one
# optimizer step. The ranks' gradients are brought together, and all take the same step. You will start two real
# processes on your own machine, and afterwards be able to
#
# - weigh the losses of ranks that do not have the same number of scenes;
# - say what `no_sync` saves, and when a run *stands still* without it;
# - show, by one number a window, that two processes trained as one.
#
# 40 minutes to read, a minute to run. [Lesson 05](05_gradient_accumulation.ipynb) helps: this is its window, in two
# hands.

# %% tags=["parameters", "unread"]
profile = "cpu"
seed = 0

# %% [markdown]
# ## Predict
#
# Torch's `DistributedDataParallel` gives every rank the **mean over ranks** of their gradients. The usual loop on each
# rank is the one you know: the loss is the mean over the rank's own scenes. A window has 128 scenes. Rank 0 has 96 of
# them, rank 1 has 32.

# %%
# about 5 s, most of it to load PyTorch
from covlab.course import check, measure, outcome, predict

of_one_process = ["the same", "the same direction, another length", "another direction"]
predict("10.uneven", "Held against one process that has all 128 scenes, this gradient has …", of_one_process)

# %%
predict(
    "10.without_no_sync",
    (
        "Each rank has two micro-batches, and you forget `no_sync`, which keeps the ranks from talking in all but the "
        "last. The window's gradient is …"
    ),
    ["the same, and the ranks talk twice as often", "twice as long", "that of the last micro-batch alone"],
)

# %%
predict(
    "10.two_logs",
    (
        "You train for 30 windows, once with one process and once with two, from the same seed, weighed rightly. The "
        "logged losses …"
    ),
    ["agree to rounding", "agree on average", "go apart: each rank draws scenes of its own"],
)

# %% [markdown]
# ## The experiment
#
# This function runs on each rank. `parallel` is the network inside `DistributedDataParallel`; `mine` are this
# rank's micro-batches; every scene's loss counts `share`.

# %%
import inspect
import tempfile
from pathlib import Path

import torch  # after covlab, which tells it how threads should wait

from covlab import plots
from covlab.course.experiments.many_processes import (
    gradients_by_rank,
    on_ranks,
    reductions_in_order,
    train_on_ranks,
    window_on_ranks,
)
from covlab.plots.training import same_run
from covlab.plots.window_gradients import gradient_errors

print(inspect.getsource(window_on_ranks))

# %% [markdown]
# Three windows, from rank 0's micro-batches and rank 1's. `on_ranks` starts two processes, lets them meet, and brings
# back what each of them found. The reference is one process with all scenes in one batch.

# %%
windows = {
    "even": [[32, 32], [32, 32]],
    "uneven": [[32, 32, 32], [32]],
    "ragged": [[32, 32], [32, 4]],
}
ranks = on_ranks(2, gradients_by_rank, seed=seed, windows=windows)
found = ranks[0]
for name in windows:
    for rule in found[name].keys() - {"one process"}:
        if not torch.equal(found[name][rule][0], ranks[1][name][rule][0]):
            raise RuntimeError("the ranks hold different gradients after they were brought together")


def error(name, rule):
    g, reference = found[name][rule][0], found[name]["one process"][0]
    return ((g - reference).norm() / reference.norm()).item()


def length(name, rule):
    return (found[name][rule][0].norm() / found[name]["one process"][0].norm()).item()


def angle(name, rule):
    g, reference = found[name][rule][0], found[name]["one process"][0]
    return torch.rad2deg(torch.acos((g @ reference / g.norm() / reference.norm()).clamp(-1, 1))).item()


rules = {
    "each rank its own mean": "share = 1 / own scenes",
    "mean over all scenes, without R": "share = 1 / all scenes",
    "mean over all scenes": "share = R / all scenes",
}
errors = {label: {name: error(name, rule) for name in windows} for rule, label in rules.items()}

# %% tags=["hide-input"]
plots.show(
    gradient_errors(errors, equal=1e-5),
    "Three rules, three windows each, on a logarithmic axis of the gradient's error. With each rank's own mean, the "
    "even window is equal but for rounding, near 1e-7, the uneven and the ragged one are off by 0.1 to 0.4 of the "
    "gradient. With one over all scenes, all three windows are off by a half. With R over all scenes, all three are "
    "equal.",
)

# %%
plots.table(
    ["rule", *(f"{name}: length, angle" for name in windows)],
    [
        (label, *(f"{length(name, rule):.2f}×, {angle(name, rule):.0f}°" for name in windows))
        for rule, label in rules.items()
    ],
    "The gradient of two ranks over that of one process.",
)


def in_words(name, rule):
    if error(name, rule) < 1e-5:
        return of_one_process[0]
    return of_one_process[1 if angle(name, rule) < 1 else 2]


outcome(
    "10.uneven",
    in_words("uneven", "each rank its own mean"),
    because="A mean of two means is the mean only where both have as many scenes.",
)
measure("10.uneven_angle", angle("uneven", "each rank its own mean"))
measure("10.uneven_error", error("uneven", "each rank its own mean"))
measure("10.without_ranks_length", length("uneven", "mean over all scenes, without R"))
if max(errors["share = R / all scenes"].values()) > 1e-5:
    raise RuntimeError("the right rule no longer gives the gradient of one process")

# %% [markdown]
# **Why.** Let rank $r$ of $R$ have $n_r$ scenes, with a mean loss of $\ell_r$. Torch takes the gradient of the first of
# these, whatever each rank has; one process takes that of the second:
#
# $$\frac{\ell_1 + \dots + \ell_R}{R} \qquad\text{and}\qquad
# \frac{n_1 \ell_1 + \dots + n_R\,\ell_R}{n_1 + \dots + n_R}.$$
#
# - **Even**: the same formula.
# - **Uneven**: a scene on rank 1 counts three times as much as one on rank 0. The gradient is off by
#   <span data-claim="10.uneven_error">0.30</span> of itself and turned by about
#   <span data-claim="10.uneven_angle">16</span>°.
# - The repair has **two** halves. Divide by the scenes of *all* ranks, and multiply by R, since torch will divide by R
#   once more. Half a repair is a gradient of <span data-claim="10.without_ranks_length">0.50</span> of its length, in
#   every window: under AdamW you would never see it (lesson 05 says why).
#
# So before its first backward a rank must know the number of scenes on all ranks. That is one number to send, or a rule
# by which the window was dealt out.
#
# ## Find and mend, 1: the weight of a rank
#
# `counts` holds each rank's number of scenes. Each rank multiplies the *mean* loss over its own scenes by its factor;
# then torch takes the mean over ranks.

# %% tags=["exercise"]
import torch


def rank_factors(counts):
    """The factor of each rank's mean loss, from the ranks' numbers of scenes [R] -> [R]."""
    return counts / counts.sum()


# %% tags=["solution"]
import torch


def rank_factors(counts):
    """The factor of each rank's mean loss, from the ranks' numbers of scenes [R] -> [R]."""
    return len(counts) * counts / counts.sum()


# %%
check("10.rank_factors", rank_factors)

# %% [markdown]
# ## What `no_sync` is for
#
# The backward of a `DistributedDataParallel` network brings the ranks' gradients together *every time*. In the even
# window each rank has two micro-batches. How often did the ranks talk, and what came of it?

# %%
talks = {rule: found["even"][rule][1] for rule in ("mean over all scenes", "without no_sync")}
megabytes = 4 * len(found["even"]["one process"][0]) / 1e6
plots.table(
    ["even window", "reductions", "sent by each rank", "error of the gradient"],
    [
        (label, talks[rule], f"{talks[rule] * megabytes:.2f} MB", f"{error('even', rule):.0e}")
        for label, rule in (("with no_sync", "mean over all scenes"), ("without", "without no_sync"))
    ],
)
same, twice = error("even", "without no_sync") < 1e-5, talks["without no_sync"] == 2 * talks["mean over all scenes"]
happened = 0 if same and twice else 1 if length("even", "without no_sync") > 1.5 else 2
outcome(
    "10.without_no_sync",
    ["the same, and the ranks talk twice as often", "twice as long", "that of the last micro-batch alone"][happened],
    because="What was brought together before is the same on all ranks, so its mean is itself.",
)
measure("10.talks_hushed", talks["mean over all scenes"])
measure("10.talks_loud", talks["without no_sync"])
measure("10.megabytes", megabytes)

# %% [markdown]
# With `no_sync` on all micro-batches but the last there is <span data-claim="10.talks_hushed">1</span>&nbsp;reduction a
# window; without it there are <span data-claim="10.talks_loud">2</span>, of
# <span data-claim="10.megabytes">0.07</span>&nbsp;MB each. The gradient is the same. Here it is a waste, no more: this
# network is small.
#
# The *uneven* window is another matter. There rank 0 has three backwards, and rank 1 has one. Let them go through three
# such windows without `no_sync`, and note in which window each of them is when they talk:

# %%
# about 8 s
(met_0, waited_0), (met_1, waited_1) = on_ranks(
    2, reductions_in_order, seed=seed, micro_batches=[3, 1], windows=3, patience=5.0
)
last = [("2, and waits", "–, it is through")]
plots.table(
    ["reduction", "rank 0 is in window", "rank 1 is in window"],
    [(number, *both) for number, both in enumerate([*zip(met_0, met_1), *last], 1)],
)
if (met_0, met_1, waited_0, waited_1) != ([1, 1, 1], [1, 2, 3], True, False):
    raise RuntimeError("the text below no longer follows from what the ranks did")

# %% [markdown]
# Reductions are matched by their *order*, and nobody in between knows of windows. So rank 0's second micro-batch is
# averaged with rank 1's next window, its third with the one after: **windows mix, without an error**. And when rank 1
# has come to its end, rank 0 waits for it: **the run stands still**, until a timeout ends it (five seconds here; gloo's
# own is half an hour).
#
# The same happens where a rank has *nothing* in a window: seven micro-batches, dealt to two ranks in fours, end with
# such windows sooner or later. Two rules follow:
#
# - every rank takes part in every reduction of every window, also with nothing to add;
# - the forward belongs inside `no_sync` too: torch decides there whether the backward will talk.
#
# ## Find and mend, 2: dealing out a window
#
# The micro-batches of a window are numbered from 0. Each rank asks for its own.


# %% tags=["exercise"]
def my_micro_batches(count, ranks, rank):
    """The numbers, of `count` micro-batches, that are for `rank` (0 to ranks - 1)."""
    each = count // ranks
    return range(rank * each, (rank + 1) * each)


# %% tags=["solution"]
def my_micro_batches(count, ranks, rank):
    """The numbers, of `count` micro-batches, that are for `rank` (0 to ranks - 1)."""
    return range(count * rank // ranks, count * (rank + 1) // ranks)


# %%
check("10.my_micro_batches", my_micro_batches)

# %% [markdown]
# ## Two processes, one run
#
# covlab's trainer does what you have just mended. It deals a window's micro-batches out to the ranks, so that together
# they see the very scenes one process would see (a micro-batch is drawn by its number, not by its rank). A rank that
# has nothing does another's micro-batch and counts for nothing. One sum a window carries every rank's gradient, times
# its scenes, and the scenes. All you write is
#
# ```console
# $ torchrun --nproc-per-node 2 -m covlab train --preset student --windows 300
# ```
#
# Three micro-batches a window, so that the two ranks never have as much as each other:

# %%
# about 10 s
setting = dict(windows=30, epoch=15, micro_batch=8, accumulation=3, seed=seed)
with tempfile.TemporaryDirectory() as folder:
    one, epochs_of_one = train_on_ranks(1, Path(folder) / "one", **setting)
    two, epochs_of_two = train_on_ranks(2, Path(folder) / "two", **setting)

# %% tags=["hide-input"]
plots.show(
    same_run({"one process": one, "two ranks": two}, "loss", "loss as logged"),
    "Above, the logged loss of thirty windows: a line of one process and crosses of two ranks, which lie on it. Below, "
    "the relative difference of the two on a logarithmic axis: between 1e-8 and 1e-5 in every window, about the size "
    "of a single rounding.",
)

# %%
apart = max(abs(a["loss"] - b["loss"]) / a["loss"] for a, b in zip(one, two))
scenes = {label: sum(row["scenes"] for row in rows) for label, rows in (("one process", one), ("two ranks", two))}
plots.table(
    ["", *scenes],
    [
        ("scenes trained on", *(f"{count:.0f}" for count in scenes.values())),
        ("held-out NMSE at the end", *(f"{epochs[-1]['validation']:.6f}" for epochs in (epochs_of_one, epochs_of_two))),
    ],
)
print(f"largest relative difference of a logged loss: {apart:.0e}")
validated = [epochs[-1]["validation"] for epochs in (epochs_of_one, epochs_of_two)]
on_average = abs(validated[0] - validated[1]) < 0.1 * validated[0]
happened = (
    "agree to rounding"
    if apart < 1e-4
    else "agree on average"
    if on_average
    else "go apart: each rank draws scenes of its own"
)
outcome("10.two_logs", happened, because="The same scenes, each counted once; only the order of adding differs.")
if apart > 1e-4:
    raise RuntimeError("two ranks no longer train as one process")

# %% [markdown]
# (A dot at the lower edge: equal, or as good as.) The two runs differ by the order in which numbers are added, and by
# nothing else. This is the strongest test that a parallel loop can be given, and it costs one run: **same seed, one
# process and R, hold the logs side by side**. A wrong weight, a scene seen twice, a dropped remainder, a validation
# that takes the mean of means: each would show in the third digit or before.
#
# Resumed with the same number of ranks, such a run ends with the very same bits; with another number it is refused,
# because the order of adding is part of the run. If a rank dies, the others end with a message, and the run can be
# taken up.
#
# ## Where this happened to others
#
# - **Uneven ranks.** `huggingface/transformers#34242` (October 2024, closed): after the famous repair of gradient
#   accumulation, "token averaging in DDP seems to have the same issue". `#34373` brought the count of all ranks, as an
#   option; `#39392` (July 2025) asks to make it the default, since it was off.
# - **The factor R, without the count.** `NVIDIA-NeMo/Automodel#3846` (September 2026, closed): the loss was a mean over
#   a rank's *own* scenes *and* multiplied by the number of ranks, to cancel a division that was already right. With 4
#   ranks and 2 micro-batches its reporter measured a gradient
#   <span data-quoted="NVIDIA-NeMo/Automodel#3830">8.00</span> times too long. Half a repair in either direction is a
#   bug.
#
# ## In three lines
#
# - Torch takes the mean over ranks; a step of one process needs the mean over scenes. Divide by all ranks' scenes,
#   multiply by R.
# - `no_sync` saves talk where ranks are even, and keeps their windows together where they are not; every rank takes
#   part in every reduction.
# - One process and R ranks, same seed, logs side by side: if they part before the fifth digit, something is wrong.
#
# **Onward.** [11 · Watch your own loop](11_watch_your_own_loop.ipynb): which of these faults can be seen from outside,
# in anybody's loop?
