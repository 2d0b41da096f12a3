# ---
# jupyter:
#   kernelspec:
#     display_name: Python 3
#     language: python
#     name: python3
# ---

# %% [markdown]
# # 06 · The scaling bug
#
# **Question.** A code review blames one line for a dead training run. Was it that line?
#
# **Bugs path** 5 of 6 · **Whole course** 7 of 12 · 60 minutes · 05 helps
#
# This lesson is a detective story, and it really happened. You get the case file. Then you examine the evidence, piece
# by piece. Afterwards you can
#
# - say what a missing division changes, and what each optimizer makes of it;
# - ask of any bug what it *would* change, and measure exactly that;
# - tell which bugs can print the two numbers in the log.
#
# Running all cells takes about a minute, and nothing is downloaded.

# %% tags=["parameters"]
profile = "cpu"
seed = 0

# %% [markdown]
# ## The case file
#
# | | |
# |---|---|
# | **When** | 23 October 2025 until shortly after 27 October 2025 |
# | **Where** | a public research project that locates radio sources, `TahmidZee/ris-localization-mvdr` on GitHub. Its oldest public code is from 2 December 2025 (commit `86c2feb`). The code of October is known only from reports. |
# | **The run** | an *overfit test*: training on a few hundred fixed examples, over and over. A healthy loop memorizes them. 30 epochs, `grad_accumulation = 1` |
# | **The suspects** | ten reports, each of which names another cause |
# | **The review** | report number 5, of 27 October. It passes everything else in the code ("no additional bugs found"), blames one line, and prints a table of how the fixed run will go |
#
# This is the log, the same in each of 30 epochs:
#
# ```text
# train 0.000000   val 1.921642
# ```
#
# And this is the line that the review blames. The loop adds up the gradients of several micro-batches before each
# optimizer step. To keep the result a mean, each loss must be divided by their number. That division stands inside a
# debug block, so only the first micro-batch of the whole run is divided:
#
# ```python
# if epoch == 1 and bi == 0:
#     ...                                 # print shapes, check for NaN
#     loss = loss / grad_accumulation
# ```
#
# Move this line out of the block, says the review, and the run will learn.
#
# ## Find and fix: a colleague's loop
#
# Before you investigate, make sure that you know the correct loop. Here is one for a linear model. It raises no
# exception, and its gradient is wrong.


# %% tags=["exercise"]
def window_gradient(parameter, micro_batches):
    """Gradient of the mean loss over all scenes of the window [P]; micro_batches: (inputs [4, P], targets [4]) each."""
    for number, (inputs, targets) in enumerate(micro_batches):
        loss = (inputs @ parameter - targets).square().mean()
        if number == 0:
            loss = loss / len(micro_batches)
        loss.backward()
    return parameter.grad


# %% tags=["solution"]
def window_gradient(parameter, micro_batches):
    """Gradient of the mean loss over all scenes of the window [P]; micro_batches: (inputs [4, P], targets [4]) each."""
    for inputs, targets in micro_batches:
        loss = (inputs @ parameter - targets).square().mean()
        (loss / len(micro_batches)).backward()
    return parameter.grad


# %%
# about 5 s, most of it to load PyTorch
from covlab.course import check, choose_device, choose_scenario, outcome, predict, reference_trainer

check("06.window_gradient", window_gradient)

# %% [markdown]
# ## Exhibit A: the line, as a switch
#
# In covlab, a bug replaces one method of the trainer, so you can switch it on and off. This method decides how much each
# micro-batch counts in its window (the micro-batches of one optimizer step). The lines with `-` are correct, and those
# with `+` have the bug:

# %%
from covlab.course.experiments import scaling_case as lab
from covlab.faults import FAULTS, case, inject
from covlab.training.recipe import Recipe
from covlab.training.together import train_together

bug = "division_in_debug_block"
print(FAULTS[bug].diff())

# %% [markdown]
# ## Exhibit B: what the bug does
#
# You train the same network on the same 512 fixed scenes, from the same first parameters, for 30 epochs: once with the
# correct loop, and once with the bug. A window has four micro-batches of 32 scenes. As in the project's own test, the
# validation uses the *same* scenes: it measures memory, not skill.

# %%
predict("06.train_value", "With this bug, the logged training loss is …", ["too small", "correct", "too large"])

# %%
predict(
    "06.adamw",
    "Under AdamW, without clipping, the buggy run memorizes the scenes …",
    ["worse than the correct one", "equally well, up to chance", "better"],
)

# %%
predict("06.frozen", "Can this bug keep the validation value constant, to six digits, for 30 epochs?", ["yes", "no"])

# %%
device = choose_device(profile)
scenario = choose_scenario(device)
scenes = lab.fixed_scenes(scenario, seed, device)


def overfit(recipe, *faults):
    with inject(*faults):
        return lab.overfit_trainer(scenario, scenes, Recipe(windows=30 * 4, accumulation=4, **recipe), seed)


adamw = dict(optimizer="adamw", learning_rate=3e-3, weight_decay=0.0)
sgd = dict(optimizer="sgd", learning_rate=0.3, weight_decay=0.0)
recipes = {
    "AdamW, not clipped": adamw | {"clip": None},
    "SGD, not clipped": sgd | {"clip": None},
    "AdamW, clipped": adamw | {"clip": 1.0},
    "SGD, clipped": sgd | {"clip": 1.0},
}
runs = {title: {"correct": overfit(recipe), "with the bug": overfit(recipe, bug)} for title, recipe in recipes.items()}
train_together(*(run for both in runs.values() for run in both.values()))

# %% tags=["hide-input"]
# Draws the runs without clipping
from covlab import plots
from covlab.course import measure
from covlab.plots.training import window_columns

figure = window_columns(
    {title: both for title, both in runs.items() if "not clipped" in title},
    {"loss": "loss as logged", "gradient_norm": "gradient norm", "update_norm": "norm of the update"},
)
plots.show(
    figure,
    "Six panels: logged loss, gradient norm and update norm over 120 windows, for AdamW above and SGD below. In both "
    "rows the run with the bug logs several times the loss and the gradient norm of the correct one, and both fall "
    "together. The updates cannot be told apart under AdamW. Under SGD they are several times longer too.",
)

# %% [markdown]
# Read each row from left to right. The buggy run *logs* a larger loss, because it logs the number that it
# back-propagates. Its gradient is larger by the same factor. The third column shows what reaches the parameters. There
# the optimizers differ. The table compares all four recipes:

# %% tags=["hide-input"]
# The table: each number with the bug, divided by the correct one
ratios = lab.ratios(runs)
plots.table(
    ["with the bug, divided by the correct value", *runs],
    [(name, *(f"{ratios[title][name]:.2f}" for title in runs)) for name in lab.OBSERVED],
    "After 30 epochs. The error (NMSE) is measured in evaluation mode. No bug in the loop can scale it.",
)
measure("06.logged_ratio", ratios["AdamW, not clipped"]["logged loss over measured error"])
measure("06.first_gradient_ratio", ratios["AdamW, not clipped"]["gradient norm, first window"])
measure("06.adamw_first_step_ratio", ratios["AdamW, not clipped"]["update norm, first window"])
measure("06.sgd_first_step_ratio", ratios["SGD, not clipped"]["update norm, first window"])
measure("06.sgd_reached_ratio", ratios["SGD, not clipped"]["error reached"])
measure("06.sgd_clipped_reached_ratio", ratios["SGD, clipped"]["error reached"])
measure("06.adamw_reached_ratio", ratios["AdamW, not clipped"]["error reached"])

# %% tags=["hide-input"]
# Compares your first two predictions with the runs
logged = ratios["AdamW, not clipped"]["logged loss over measured error"]
reached = ratios["AdamW, not clipped"]["error reached"]
outcome(
    "06.train_value",
    "too large" if logged > 1.05 else "too small" if logged < 0.95 else "correct",
    because=f"It is {logged:.2f} times the measured error. The log shows the number that was back-propagated.",
)
outcome(
    "06.adamw",
    "equally well, up to chance" if 0.9 < reached < 1.1 else "better" if reached < 1 else "worse than the correct one",
    because=f"Its error is {reached:.2f} times the correct run's. AdamW divides each gradient by its own running size.",
)

# %% [markdown]
# **Why.** Without the division, a window's gradient is the *sum* of its micro-batches' gradients instead of their mean.
# With four micro-batches it is four times too long, in the same direction. So is the logged loss
# (<span data-claim="06.logged_ratio">4.00</span>&nbsp;times the measured error). In the very first window one of the
# four *is* divided. There the gradient is <span data-claim="06.first_gradient_ratio">3.2 to 3.4</span>&nbsp;times too
# long: three wholes and a quarter.
#
# - **AdamW** divides the gradient by its own running size, so a constant factor cancels. Without clipping, the first
#   step is as long as the correct one (ratio <span data-claim="06.adamw_first_step_ratio">1.00</span>). After 30 epochs
#   the error is the same, up to chance (ratio <span data-claim="06.adamw_reached_ratio">1.0</span>).
# - **SGD** passes the factor on. The first step is
#   <span data-claim="06.sgd_first_step_ratio">3.2 to 3.4</span>&nbsp;times as long. From then on, the run has four times
#   the learning rate. Without clipping, it ends with
#   <span data-claim="06.sgd_reached_ratio">1.2 to 3.6</span>&nbsp;times the correct run's error, depending on the seed.
# - **Clipping** changes the picture. The threshold is absolute, so a gradient that is four times too long meets it
#   more often. Clipped SGD even ends *better* than the correct run, with
#   <span data-claim="06.sgd_clipped_reached_ratio">0.5 to 0.7</span>&nbsp;times its error: this recipe happens to like a
#   larger learning rate. A bug that helps is still a bug. And the final error alone tells you little about a loop.
#
# All eight runs learn.
#
# Try it yourself. Switch the bug on and off, change the optimizer, use more micro-batches per window, or just one. The
# runs are shorter here, and they train while you watch.

# %%
from covlab.widgets import FaultMuseumExplorer, ScalingBugExplorer

explorer = ScalingBugExplorer(bug, seed)
explorer.show()

# %% [markdown]
# ## Exhibit C: can it freeze the validation?
#
# The log has two symptoms: a train value of zero, and a validation value that never changes. Look for both in the four
# buggy runs:

# %%
buggy_runs = [both["with the bug"] for both in runs.values()]
smallest_train = min(row["train"] for run in buggy_runs for row in run.history)
values_printed = min(len({f"{row['validation']:.6f}" for row in run.history}) for run in buggy_runs)
print(f"smallest train value of any epoch: {smallest_train:.6f}")
print(f"different validation values in 30 epochs: at least {values_printed}")

# %% tags=["hide-input"]
# Compares your third prediction with the runs
outcome(
    "06.frozen",
    "yes" if values_printed == 1 else "no",
    because=f"Each buggy run printed at least {values_printed} different values in 30 epochs.",
)
if smallest_train < 5e-7 or values_printed == 1:
    raise RuntimeError("the text no longer follows from the runs above")

# %% [markdown]
# Neither symptom appears. So the review found a real bug, but it does not explain the log. Somebody or something
# else must have done it.
#
# ## Ten suspects
#
# Within days, ten reports named ten different causes. Each was written with confidence, and most came with a
# fix. Here they are:

# %%
timeline = lab.Timeline(seed)
timeline.show()

# %% [markdown]
# Test them yourself. Each test makes small runs with that cause switched on: 120 fixed scenes, 30 epochs. Begin with the
# reports of the first two days. Before you run the cell, choose one that you believe.

# %%
# about 5 s
timeline.test(1, 2, 3, 4)

# %% [markdown]
# A weight of zero comes close: it explains the zero. But there is evidence against it. The project had printed the
# weight, and it was 1. Next come the reports of 27 October. Number 5 is the review's own. Leave it for later.

# %%
# about 6 s
timeline.test(6, 7, 8)

# %% [markdown]
# Number 6 is the first that explains a symptom: the running sum of the losses grows only in steps that run. If no step
# runs, it stays zero. But alone it does nothing, because steps do run. Two more are left.

# %%
# about 6 s
timeline.test(9, 10)

# %% [markdown]
# Count the verdicts. Some reports are false. Most of the others describe real bugs, and still none of them explains the
# log by itself. A bug that you can point at is not yet the cause of what you see.
#
# ## Which bug is this?
#
# Your turn to name a culprit. Below is a run of 10 epochs with another bug, beside the correct run. The network and the
# scenes are fine. Read the columns from left to right, as before: what is logged, the gradient, what reached the
# parameters.

# %%
# about 6 s
from covlab.course.exercises.lesson_06 import mystery_run
from covlab.course.exercises.lesson_06 import which_fault as exercise

mystery, healthy = mystery_run(seed, device), reference_trainer("overfit", seed, device=device, windows=40).fit()

# %% tags=["hide-input"]
# The table of both runs, epoch by epoch
plots.table(
    *lab.epochs_side_by_side({"mystery": mystery, "correct": healthy}), "Norms are of each epoch's last window."
)

# %% [markdown]
# It is one of these five. Choose one to see its code, correct and buggy, and what it changed in earlier runs. (In a
# terminal, `covlab faults show NAME` shows the same.)

# %%
FaultMuseumExplorer(exercise.choices[0]).show()

# %% tags=["hide-input"]
# The table of the five suspects
plots.table(["name", "what it does"], [(name, FAULTS[name].title) for name in exercise.choices])

# %% tags=["exercise"]
which_fault = "division_in_debug_block"

# %% tags=["solution"]
which_fault = "schedule_per_micro_batch"

# %%
check("06.which_fault", which_fault)

# %% [markdown]
# ## Three facts that close the review's case
#
# Look at the case file again. Did you notice the settings of the run?
#
# **Fact 1. The blamed run accumulated over one micro-batch.** `grad_accumulation = 1`: the missing division is a division
# by one. Now test the last suspect. Then compare all parameters of two small runs with this setting, one of which has
# the bug:

# %%
# about 4 s
timeline.test(5)

correct = timeline.run(accumulation=1).run
buggy = timeline.run(bug, accumulation=1).run
identical = bool((correct.vector == buggy.vector).all())
print(f"after {buggy.window} steps, the parameters are identical, bit for bit: {identical}")

# %% tags=["hide-input"]
# Stops if the parameters differ
if not identical:
    raise RuntimeError("the text no longer follows from the run above")

# %% [markdown]
# **Fact 2. The promised table was never measured.** The same block of numbers appears in a report three days earlier,
# about a *different* bug. Its first number, <span data-quoted="the review">0.806</span>, was one debug print of a single batch.
#
# **Fact 3. The fix changed nothing.** After it, the project recorded a train value of
# <span data-quoted="the project's later log">0.217</span> and a validation of
# <span data-quoted="the project's later log">1.921642</span>, still the same in all 30 epochs.


# %% tags=["hide-input"]
# The table of what was said and what was measured
def arrow(run, value):
    return " → ".join(f"{run.history[epoch][value]:.3f}" for epoch in (0, 1, -1))


both = runs["AdamW, clipped"]
plots.table(
    ["30 epochs", "train", "validation", "source"],
    [
        ("before the fix, as reported", "0.000000", "1.921642 in every epoch", "the project's log"),
        ("after the fix, as promised", "0.806 → 0.723 → 0.198", "1.921 → 1.789 → 0.187", "the review, before any run"),
        ("after the fix, as recorded", "0.217", "1.921642", "the project's later log"),
        *(
            (f"{label}, measured here", arrow(run, "train"), arrow(run, "validation"), "this notebook, AdamW, clipped")
            for label, run in both.items()
        ),
    ],
    "The first two epochs and the last. Network and scenes of the last two rows are covlab's own.",
)

# %% [markdown]
# ## Who did it?
#
# Two things must come together. *Nothing reaches the running sum*: that prints the zero. *No step moves the parameters*:
# that prints the constant. The reports, and the project's public code of five weeks later, contain these parts:
#
# - a term of the loss, with a weight of `0.002`, whose gradient is NaN (lesson
#   [07](07_overflow_and_sanitization.ipynb));
# - a gate that silently skips the step when that happens;
# - a running sum that grows only in steps that run;
# - a loop body that was de-dented, so that backward and step happen once per epoch, for the last batch.
#
# Together they make the first candidate, **the skipping gate**. The second candidate is **the stranded loop body**:
# backward, step and running sum moved into a debug block after the loop. Try the parts alone and together:

# %%
# about 5 s
nan_term, running_sum = "gradient_through_singular_vectors", "running_sum_in_step_branch"
suspects = {
    "the NaN term alone": timeline.run(nan_term, **case.ALIGNED),
    "the running sum alone": timeline.run(running_sum),
    "both": timeline.run(nan_term, running_sum, **case.ALIGNED),
    "the skipping gate": timeline.run(*case.SKIPPING_GATE_AND_NAN_TERM, accumulation=15, **case.ALIGNED),
    "the stranded loop body": timeline.run(*case.NESTED_IN_DEBUG_BLOCK),
}

# %% tags=["hide-input"]
# The table of what each combination prints
plots.table(
    ["faults", "printed in 30 epochs", "the zero", "the constant"],
    [
        (name, str(found), *("yes" if each else "no" for each in (found.train_is_zero, found.validations == 1)))
        for name, found in suspects.items()
    ],
)
alone, together = list(suspects.values())[:2], list(suspects.values())[2:]
if any(found.reproduced for found in alone) or not all(found.reproduced for found in together):
    raise RuntimeError("the text no longer follows from the runs above")

# %% [markdown]
# The NaN term alone freezes the run, but logs an honest loss. The running sum alone does nothing. *Together* they print
# the log of the case: a zero and a constant. Both candidates do.
#
# Which one was it in October? Nobody can say, because that code is gone. But each part leaves its own trace: a step that
# moves no parameter, a sum that never grows. One print of the update norm would have led straight to it.
#
# `covlab faults case` in a terminal runs more combinations, and `covlab faults reports` repeats the ten tests.
#
# ## What else did the review pass?
#
# The review called everything else correct. Here are three of these items, each with a measurement. The rest is folded.

# %% tags=["hide-input"]
# Measures the review's items, about 6 s
from covlab.faults.review import review

findings = {finding.subject: finding for finding in review(seed)}
header = ["item", "the review's view", "measured here", "verdict"]
first = ("gradient accumulation", "sanitization before unscale", "hard guards")
rows = {name: (name, each.claim, each.measured, each.verdict) for name, each in findings.items()}
plots.table(header, [rows[name] for name in first])
rest = [row for name, row in rows.items() if name not in first]
plots.table(header, rest, folded=f"The other {len(rest)} items")

# %% [markdown]
# ## Verdict
#
# The blamed line is wrong, and worth fixing. It makes the loss and the gradient of each window too large by the
# accumulation count. Under SGD, that is another learning rate. But it cannot print a train value of zero. It cannot
# freeze the validation. And in the blamed run it divided by one. The review found a real bug and blamed it for the
# wrong symptom.
#
# ## Where this happened to others
#
# `karpathy/nanoGPT#168` (2023; still open when we last looked, but fixed in the code that year) reports the missing
# division in one of the most widely read training loops. Its author answers with what you have measured: under Adam
# the factor does no harm, but the clipping threshold is effectively divided by it.
#
# ## In three lines
#
# - A bug that you can point at is not yet the cause of what you see.
# - Ask what the bug would change, and measure exactly that.
# - A promised number is a guess until somebody runs it.
#
# **Next.** On the bugs path: [11 · Watch your own loop](11_watch_your_own_loop.ipynb) finds such bugs in any script. In
# the whole course: [07 · Overflow and sanitization](07_overflow_and_sanitization.ipynb), about the NaN, and how hiding
# it killed the run.
