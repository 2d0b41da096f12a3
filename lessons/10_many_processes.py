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
# **Question.** When do two processes take the same step as one?
#
# **Whole course** 11 of 12 · 40 minutes · 05 helps
#
# Several processes can train one network together. Each process is called a **rank**. One optimizer step uses many
# *scenes* (training examples). They come in several smaller batches, the *micro-batches*. All micro-batches of one step
# are a *window* (lesson 05). The ranks divide the micro-batches of a window among themselves. Each rank computes a
# gradient from its part. Then the ranks combine their gradients, and all take the same step.
#
# In this lesson you start two real processes on your own machine. Afterwards you can
#
# - weight the losses when ranks have different numbers of scenes;
# - say what `no_sync` is for, and when a run hangs without it;
# - test, with one number per window, whether two processes train as one.
#
# In this lesson, R is the number of ranks. It is not a matrix. Running all cells takes a minute.

# %% tags=["parameters", "unread"]
profile = "cpu"
seed = 0

# %% [markdown]
# ## Unequal ranks
#
# PyTorch's `DistributedDataParallel` takes the **mean over ranks** of their gradients. On each rank you write the usual
# loop: the loss is the mean over this rank's own scenes.
#
# A window has 128 scenes. Rank 0 has 96 of them, and rank 1 has 32.

# %%
# about 5 s, most of it to load PyTorch
from covlab.course import check, outcome, predict
from covlab.course.experiments import many_processes as lab

of_one_process = ["the same", "the same direction, another length", "another direction"]
predict("10.uneven", "How does this gradient compare with that of one process that has all 128 scenes?", of_one_process)

# %% [markdown]
# This function runs on each rank. `parallel` is the network inside `DistributedDataParallel`. `mine` is the list of
# this rank's micro-batches. `share` is the weight of each scene in the loss. You will see later what `hush` does.

# %%
import inspect

print(inspect.getsource(lab.window_on_ranks))

# %% [markdown]
# Here are three windows. Each one lists how many scenes the micro-batches of rank 0 and of rank 1 have. `compare_ranks`
# starts two processes, connects them, and runs the function above on each rank. It compares the resulting gradient with
# that of one process that has all scenes in one batch.

# %%
# about 8 s
windows = {
    "even": [[32, 32], [32, 32]],
    "uneven": [[32, 32, 32], [32]],
    "ragged": [[32, 32], [32, 4]],
}
rules = {  # {name: weight of a scene}
    "each rank its own mean": "share = 1 / own scenes",
    "mean over all scenes, without R": "share = 1 / all scenes",
    "mean over all scenes": "share = R / all scenes",  # R: number of ranks
}
found = lab.compare_ranks(windows, seed)  # {window: {rule: its gradient, compared with one process}}

# %% tags=["hide-input"]
# Draws the error of each rule's gradient
from covlab import plots
from covlab.course import measure
from covlab.plots.window_gradients import gradient_errors

errors = {label: {name: found[name][rule].error for name in windows} for rule, label in rules.items()}
plots.show(
    gradient_errors(errors, equal=1e-5),
    "Three rules, three windows each, on a logarithmic axis of the gradient's error. With each rank's own mean, the "
    "even window is equal up to rounding, near 1e-7. The uneven and the ragged window are wrong by 0.1 to 0.4 of the "
    "gradient. With one over all scenes, all three windows are wrong by a half. With R over all scenes, all three are "
    "equal.",
)

# %% tags=["hide-input"]
# Shows the table of lengths and angles
plots.table(
    ["rule", *(f"{name}: length, angle" for name in windows)],
    [
        (label, *(f"{found[name][rule].length:.2f}×, {found[name][rule].angle:.0f}°" for name in windows))
        for rule, label in rules.items()
    ],
    "The gradient of two ranks, compared with that of one process.",
)

# %% tags=["hide-input"]
# Compares your prediction with the uneven window
uneven = found["uneven"]["each rank its own mean"]
happened = 0 if uneven.error < 1e-5 else 1 if uneven.angle < 1 else 2
outcome(
    "10.uneven",
    of_one_process[happened],
    because="The mean of two means equals the mean over all scenes only if both ranks have equally many scenes.",
)
measure("10.uneven_angle", uneven.angle)
measure("10.uneven_error", uneven.error)
measure("10.without_ranks_length", found["uneven"]["mean over all scenes, without R"].length)
if max(errors["share = R / all scenes"].values()) > 1e-5:
    raise RuntimeError("the correct rule no longer gives the gradient of one process")

# %% [markdown]
# **Why.** There are $R$ ranks, numbered from 1 in this formula. Rank $r$ has $n_r$ scenes, and their mean loss is
# $\ell_r$. PyTorch computes the gradient of the expression on the left. One process computes the gradient of the
# expression on the right:
#
# $$\frac{\ell_1 + \dots + \ell_R}{R} \qquad\text{and}\qquad
# \frac{n_1 \ell_1 + \dots + n_R\,\ell_R}{n_1 + \dots + n_R}.$$
#
# - **Even window.** Both expressions are equal.
# - **Uneven window.** A scene on rank 1 counts three times as much as a scene on rank 0. The gradient's error is
#   <span data-claim="10.uneven_error">0.22 to 0.30</span> of its length, and its direction is off by
#   <span data-claim="10.uneven_angle">13 to 17</span>°. (The numbers depend on the seed.)
# - **Ragged window.** This has the same problem: rank 0 has 64 scenes, and rank 1 has 36.
#
# ## Find and fix: the weight of a rank
#
# `counts` holds each rank's number of scenes. Each rank multiplies its *mean* loss by its factor. Then PyTorch takes
# the mean over ranks. A colleague's factors seem to be correct, because they add up to 1. But the gradient is too
# short.


# %% tags=["exercise"]
def rank_factors(counts):
    """The factor of each rank's mean loss, from the ranks' numbers of scenes [R] -> [R]."""
    return counts / counts.sum()


# %% tags=["solution"]
def rank_factors(counts):
    """The factor of each rank's mean loss, from the ranks' numbers of scenes [R] -> [R]."""
    return len(counts) * counts / counts.sum()


# %%
check("10.rank_factors", rank_factors)

# %% [markdown]
# **The fix has two halves.** Divide by the number of scenes on *all* ranks. Then multiply by $R$, because PyTorch will
# also divide by $R$. If you do only the first half, every gradient has
# <span data-claim="10.without_ranks_length">0.50</span> of its correct length. With AdamW, you would not notice (lesson
# 05 shows why).
#
# So before its first backward pass, a rank must know how many scenes all ranks have together. Either the ranks send
# each other their counts, or every rank can compute the total from a rule.
#
# ## What is `no_sync` for?
#
# Each backward pass of a `DistributedDataParallel` network combines the ranks' gradients. This is called a *reduction*,
# and it sends data between the ranks. The context manager `no_sync` switches it off. With `hush=True`, the function
# above uses `no_sync` for every micro-batch except the last one.

# %%
CHOICES = ["the same, and the ranks communicate twice as often", "twice as long", "that of the last micro-batch alone"]
predict(
    "10.without_no_sync",
    "Each rank has two micro-batches, and you forget `no_sync`. Compared with the correct gradient, yours is …",
    CHOICES,
)

# %%
with_it, without = found["even"]["mean over all scenes"], found["even"]["without no_sync"]
megabytes = 4 * with_it.parameters / 1e6  # of one reduction: four bytes per parameter

# %% tags=["hide-input"]
# Shows the table of reductions, and your prediction
plots.table(
    ["even window", "reductions", "sent by each rank", "error of the gradient"],
    [
        (label, each.reductions, f"{each.reductions * megabytes:.2f} MB", f"{each.error:.0e}")
        for label, each in (("with no_sync", with_it), ("without", without))
    ],
)
happened = 0 if without.error < 1e-5 else 1 if without.length > 1.5 else 2
outcome(
    "10.without_no_sync",
    CHOICES[happened],
    because="What was combined earlier is the same on both ranks. If you take its mean again, nothing changes.",
)
measure("10.talks_hushed", with_it.reductions)
measure("10.talks_loud", without.reductions)
measure("10.megabytes", megabytes)

# %% [markdown]
# With `no_sync` there is <span data-claim="10.talks_hushed">1</span>&nbsp;reduction per window. Without it there are
# <span data-claim="10.talks_loud">2</span>, of <span data-claim="10.megabytes">0.07</span>&nbsp;MB each. The gradient
# is the same. For this small network, forgetting `no_sync` only costs some time.
#
# The *uneven* window is different. In it, rank 0 has three backward passes, and rank 1 has one. The next cell runs
# three such windows without `no_sync`. For every reduction, it records which window each rank is in:

# %%
# about 8 s
(met_0, waited_0), (met_1, waited_1) = lab.on_ranks(
    2, lab.reductions_in_order, seed=seed, micro_batches=[3, 1], windows=3, patience=5.0
)

# %% tags=["hide-input"]
# Shows the table of windows in which the ranks meet
last = [("2, and waits", "–, it has finished")]
plots.table(
    ["reduction", "rank 0 is in window", "rank 1 is in window"],
    [(number, *both) for number, both in enumerate([*zip(met_0, met_1), *last], 1)],
)
if (met_0, met_1, waited_0, waited_1) != ([1, 1, 1], [1, 2, 3], True, False):
    raise RuntimeError("the text below no longer follows from what the ranks did")

# %% [markdown]
# PyTorch matches the reductions of the ranks by their *order*. It does not know about windows. This has two
# consequences:
#
# - **Windows mix, without an error.** In the first window of rank 0, PyTorch averages the second micro-batch with the
#   second window of rank 1, and the third micro-batch with the third window of rank 1.
# - **The run hangs.** Rank 1 finishes, and rank 0 waits for it until a timeout ends the run. Here the timeout is five
#   seconds. The default of gloo, the library that connects these ranks, is half an hour.
#
# The same happens when a rank has *no* micro-batch in a window. Suppose that you divide seven micro-batches into
# windows of four, on two ranks. Then the last window has only three, and it is uneven. So follow two rules:
#
# - Every rank takes part in every reduction of every window, even if it has nothing to add.
# - Put the forward pass inside `no_sync`, too. In the forward pass, PyTorch decides whether the backward pass will
#   communicate.
#
# ## Find and fix: dividing a window
#
# The micro-batches of a window are numbered from 0. Each rank calls this function to find out which micro-batches are
# its own. It works for four micro-batches on two ranks. With seven, the gradient is wrong.


# %% tags=["exercise"]
def my_micro_batches(count, ranks, rank):
    """The numbers of this rank's micro-batches, out of `count`; rank: 0 to ranks - 1."""
    each = count // ranks
    return range(rank * each, (rank + 1) * each)


# %% tags=["solution"]
def my_micro_batches(count, ranks, rank):
    """The numbers of this rank's micro-batches, out of `count`; rank: 0 to ranks - 1."""
    return range(count * rank // ranks, count * (rank + 1) // ranks)


# %%
check("10.my_micro_batches", my_micro_batches)

# %% [markdown]
# ## One process, then two
#
# Now we compare whole training runs. This command starts covlab's trainer on two ranks:
#
# ```console
# $ torchrun --nproc-per-node 2 -m covlab train --preset student --windows 300
# ```

# %%
CHOICES = ["agree to rounding", "agree on average", "go apart: each rank draws scenes of its own"]
predict(
    "10.two_logs",
    "You train for 30 windows from one seed, once with one process and once with two. The logged losses …",
    CHOICES,
)

# %% [markdown]
# Each window has three micro-batches, so the two ranks never have equally many:

# %%
# about 10 s
setting = dict(windows=30, epoch=15, micro_batch=8, accumulation=3, seed=seed)
one, two = lab.train_on_one_and_two_ranks(**setting)  # each: rows per window, rows per epoch

# %% tags=["hide-input"]
# Draws both logs, and their difference
from covlab.plots.training import same_run

plots.show(
    same_run({"one process": one.windows, "two ranks": two.windows}, "loss", "loss as logged"),
    "Above, the logged loss of thirty windows. One process is a line, and two ranks are crosses, which lie on the "
    "line. Below, the relative difference of the two on a logarithmic axis. It is between 1e-8 and 1e-5 in every "
    "window, about the size of a single rounding.",
)

# %% tags=["hide-input"]
# Shows the table of both runs, and your prediction
apart = max(abs(a["loss"] - b["loss"]) / a["loss"] for a, b in zip(one.windows, two.windows))
validated = [run.epochs[-1]["validation"] for run in (one, two)]
plots.table(
    ["", "one process", "two ranks"],
    [
        ("scenes trained on", *(f"{sum(row['scenes'] for row in run.windows):.0f}" for run in (one, two))),
        ("held-out NMSE at the end", *(f"{error:.6f}" for error in validated)),
    ],
    f"The logged losses differ by at most {apart:.0e} of their size.",
)
on_average = abs(validated[0] - validated[1]) < 0.1 * validated[0]
outcome(
    "10.two_logs",
    CHOICES[0 if apart < 1e-4 else 1 if on_average else 2],
    because="Both runs use the same scenes, and count each scene once. Only the order of adding differs.",
)
if apart > 1e-4:
    raise RuntimeError("two ranks no longer train as one process")

# %% [markdown]
# (A dot on the lower edge means that both losses are equal.) The two runs add the same numbers in a different order.
# Nothing else differs, because covlab's trainer follows the rules above:
#
# - It divides the micro-batches of each window among the ranks. It draws a micro-batch by its number, not by its rank.
#   So together, the ranks see the same scenes that one process would see.
# - A rank without a micro-batch computes a micro-batch of another rank, with weight zero.
# - One reduction per window adds up every rank's gradient, weighted by its number of scenes, together with the scene
#   counts.
#
# This is the strongest test of a parallel loop, and it costs only one extra run: **train with one process and with R,
# from the same seed, and compare the logs side by side.** It finds a wrong weight, a scene seen twice, a dropped
# remainder, or a validation that takes the mean of means. Each of these shows up in the third digit or earlier.
#
# If you resume such a run with the same number of ranks, it ends with exactly the same bits. covlab refuses a different
# number of ranks, because it would change the order of adding. If a rank dies, the others stop with a message, and you
# can resume the run.
#
# ## Where this happened to others
#
# - **Uneven ranks.** `huggingface/transformers#34242` (October 2024, closed) was reported after the fix of a well-known
#   bug in gradient accumulation: "token averaging in DDP seems to have the same issue". (DDP is
#   `DistributedDataParallel`.) `huggingface/transformers#34373` added the count over all ranks as an option.
#   `huggingface/transformers#39392` (July 2025) asks to make it the default.
# - **Multiplied by R, without the count.** `NVIDIA-NeMo/Automodel#3846` (September 2026, closed): the loss was a mean
#   over a rank's *own* micro-batch, and it was multiplied by the number of ranks to cancel PyTorch's division. That is
#   correct only if the loss is also divided by a count over *all* ranks, and it was not. The division by the number of
#   micro-batches was missing, too. In the discussion of the fix (`NVIDIA-NeMo/Automodel#3830`, merged), its author
#   simulated 4 ranks with 2 micro-batches each. The gradient was
#   <span data-quoted="NVIDIA-NeMo/Automodel#3830">8.00</span> times too long: 4 times because of the ranks, and 2 times
#   because of the micro-batches.
#
# ## In three lines
#
# - PyTorch takes the mean over ranks, but one process takes the mean over scenes. So divide by the number of scenes on
#   all ranks, and multiply by R.
# - `no_sync` saves communication. Every rank must take part in every reduction. If not, windows mix, and the run hangs.
# - Train with one process and with R, from the same seed, and compare the logs. A difference before the fifth digit is
#   a bug.
#
# **Next.** [11 · Watch your own loop](11_watch_your_own_loop.ipynb): which of these bugs can you see from outside, in
# any training loop?
