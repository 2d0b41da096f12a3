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
# **Question.** A training run does not learn, and a code review blames one line. Was it that line?
#
# **Bugs path** 5 of 6 · **Whole course** 7 of 12 · 60 minutes · 05 helps
#
# This lesson is a detective story, and it really happened. First you read what is known about the case. Then you
# examine the evidence, piece by piece. Afterwards you can
#
# - say what a missing division changes, and what each optimizer does with the result;
# - ask what a bug *would* change, and measure exactly that;
# - say which bugs can produce the two numbers in the log.
#
# It takes about a minute to run all cells, and nothing is downloaded.

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
# | **The run** | an *overfit test*: training on a few hundred fixed examples, over and over. A correct loop memorizes them. 30 epochs (passes over the examples), `grad_accumulation = 1` |
# | **The suspects** | ten reports, each of which names a different cause |
# | **The review** | report number 5, of 27 October. It blames one line, calls everything else in the code correct ("no additional bugs found"), and prints a table that predicts the results of the fixed run |
#
# This is the log. `train` is the training loss, and `val` is the error of the network on the validation examples. Both
# are the same in each of the 30 epochs:
#
# ```text
# train 0.000000   val 1.921642
# ```
#
# And this is the line that the review blames. The loop adds up the gradients of several small batches, the
# *micro-batches*, before each optimizer step. The result should be their mean, so each loss must be divided by their
# number. But the division is inside an `if` block for debugging, which runs only for the first micro-batch of the whole
# run. No other loss is divided:
#
# ```python
# if epoch == 1 and bi == 0:
#     ...                                 # print shapes, check for NaN
#     loss = loss / grad_accumulation
# ```
#
# The review says: move this line out of the block, and the run will learn.
#
# ## Find and fix: a colleague's loop
#
# Before you investigate, make sure that you know what a correct loop does. Here is a colleague's loop for a linear
# model. (A training example is called a *scene* here.) The loop raises no exception, but its gradient is wrong.


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
# covlab, the Python package of this course, can switch bugs on and off. Each bug replaces one method of its trainer.
# The method below decides how much each micro-batch counts in its window. (A *window* is the set of micro-batches of
# one optimizer step.) The lines with `-` are correct, and those with `+` have the bug:

# %%
from covlab.course.experiments import scaling_case as lab
from covlab.faults import FAULTS, case, inject
from covlab.training.together import train_together

bug = "division_in_debug_block"
print(FAULTS[bug].diff())

# %% [markdown]
# ## Exhibit B: what the bug does
#
# For each of four optimizer settings, you train the same network twice: once with the correct loop, and once with the
# bug. All runs use the same 512 fixed scenes, start from the same parameters, and take 30 epochs. A window has four
# micro-batches of 32 scenes. As in the project's own test, the validation uses the *same* scenes. So it measures what
# the network memorizes, not what it can do with new scenes.

# %%
predict("06.train_value", "With this bug, the logged training loss is …", ["too small", "correct", "too large"])

# %%
predict(
    "06.adamw",
    "The optimizer is AdamW, and no gradient is clipped (shortened). The buggy run memorizes the scenes …",
    ["worse than the correct one", "equally well, up to chance", "better"],
)

# %%
predict("06.frozen", "Can this bug keep the validation value constant, to six digits, for 30 epochs?", ["yes", "no"])

# %%
device = choose_device(profile)
scenario = choose_scenario(device)


def overfit(recipe, *faults):
    with inject(*faults):
        return reference_trainer("overfit", seed, device=device, scenario=scenario, accumulation=4, **recipe)


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
    "rows the run with the bug logs several times the loss and the gradient norm of the correct one, and the curves of "
    "both runs fall. Under AdamW the updates of both runs look the same. Under SGD those of the buggy run are several "
    "times longer, too.",
)

# %% [markdown]
# Read each row from left to right. The buggy run *logs* a larger loss, because it logs the number that it
# back-propagates. Its gradient is larger by the same factor. The third column shows how far the parameters moved in
# each step. Here the optimizers differ. The table compares all four optimizer settings:

# %% tags=["hide-input"]
# The table: each number with the bug, divided by the correct one
ratios = lab.ratios(runs)
plots.table(
    ["with the bug, divided by the correct value", *runs],
    [(name, *(f"{ratios[title][name]:.2f}" for title in runs)) for name in lab.OBSERVED],
    "After 30 epochs. The error (NMSE) is measured in evaluation mode, so a wrong factor in the loop cannot scale it.",
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
    because=f"It is {logged:.2f} times the measured error. The log shows the loss that was back-propagated.",
)
outcome(
    "06.adamw",
    "equally well, up to chance" if 0.9 < reached < 1.1 else "better" if reached < 1 else "worse than the correct one",
    because=f"Its error is {reached:.2f} times that of the correct run. AdamW divides each gradient by its recent size.",
)

# %% [markdown]
# **Why.** Without the division, a window's gradient is the *sum* of its micro-batches' gradients instead of their mean.
# With four micro-batches, the gradient is four times too long, but its direction is correct. The logged loss is too
# large by the same factor (<span data-claim="06.logged_ratio">4.00</span>&nbsp;times the measured error). In the very
# first window, one of the four losses *is* divided. So this gradient is
# <span data-claim="06.first_gradient_ratio">3.2 to 3.4</span>&nbsp;times too long: it is the sum of three full
# gradients and a quarter of one.
#
# - **AdamW** divides the gradient by a running mean of its size, so a constant factor cancels. Without clipping, the
#   first step is as long as the correct one (ratio <span data-claim="06.adamw_first_step_ratio">1.00</span>). After 30
#   epochs the error is the same, up to chance (ratio <span data-claim="06.adamw_reached_ratio">1.0</span>).
# - **SGD** multiplies the gradient by the learning rate, so the factor stays. The first step is
#   <span data-claim="06.sgd_first_step_ratio">3.2 to 3.4</span>&nbsp;times as long. From then on, the bug has the same
#   effect as four times the learning rate. Without clipping, the run ends with
#   <span data-claim="06.sgd_reached_ratio">1.2 to 3.6</span>&nbsp;times the correct run's error, depending on the seed.
# - **Clipping** shortens each gradient that is longer than a threshold, and this changes the picture. The threshold is
#   absolute, so a gradient that is four times too long exceeds it more often. With the bug, SGD with clipping even ends
#   *better* than the correct run, with <span data-claim="06.sgd_clipped_reached_ratio">0.5 to 0.7</span>&nbsp;times its
#   error. The reason is that this setting happens to work better with a larger learning rate. A bug that helps is still
#   a bug. And the final error alone says little about a loop.
#
# All eight runs learn, with and without the bug.
#
# Try it yourself. Switch the bug on and off, change the optimizer, or change the number of micro-batches per window.
# The runs are shorter here, and they train while you watch.

# %%
from covlab.widgets import FaultMuseumExplorer, ScalingBugExplorer

explorer = ScalingBugExplorer(bug, seed)
explorer.show()

# %% [markdown]
# ## Exhibit C: can the bug print the log?
#
# The log has two symptoms: a train value of zero, and a validation value that never changes. The next cell looks for
# both in the four buggy runs:

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
# Neither symptom appears. So the review found a real bug, but this bug does not explain the log. Something else must
# have caused it.
#
# ## Ten suspects
#
# Within days, ten reports named ten different causes. Each report sounded certain, and most proposed a fix. Here they
# are:

# %%
timeline = lab.Timeline(seed)
timeline.show()

# %% [markdown]
# Test them yourself. Most tests run a small training with the reported cause switched on: 120 fixed scenes, 30 epochs.
# Begin with the reports of the first two days. Before you run the cell, choose the report that you believe.

# %%
# about 5 s
timeline.test(1, 2, 3, 4)

# %% [markdown]
# Number 3, a weight of zero, comes close: it explains the zero. But there is evidence against it: the project had
# printed the weight, and it was 1. Next come the reports of 27 October. Number 5 is the review itself. You will test it
# later.

# %%
# about 6 s
timeline.test(6, 7, 8)

# %% [markdown]
# Number 6 is the first real bug that can explain a symptom. The log shows a running sum of the losses, and the code
# adds to it only when a step runs. If no step runs, the sum stays zero. But this bug alone changes nothing, because
# steps do run. Two more reports are left.

# %%
# about 6 s
timeline.test(9, 10)

# %% [markdown]
# Count the results. Some reports are false. Most of the others describe real bugs, but none of these bugs explains the
# log by itself. A real bug in the code is not always the cause of what you see.
#
# ## Which bug is this?
#
# Now it is your turn to identify a bug. Below you see a run of 10 epochs with another bug, beside the correct run. The
# network and the scenes are correct. Read the columns from left to right, as before: the logged loss, the error, the
# gradient, and how far the parameters moved.

# %%
# about 4 s
from covlab.course.exercises.lesson_06 import mystery_run
from covlab.course.exercises.lesson_06 import which_fault as exercise

mystery, healthy = mystery_run(seed, device), reference_trainer("overfit", seed, device=device, windows=40)
train_together(mystery, healthy)

# %% tags=["hide-input"]
# The table of both runs, epoch by epoch
plots.table(
    *lab.epochs_side_by_side({"mystery": mystery, "correct": healthy}),
    "The norms are those of the last window of each epoch.",
)

# %% [markdown]
# The bug is one of these five. Choose one to see its correct and its buggy code, and what the bug changed in earlier
# runs. (In a terminal, `covlab faults show NAME` shows the same.)

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
# ## Three facts about the review
#
# Look at the case file again. Did you notice the settings of the run?
#
# **Fact 1. The blamed run accumulated over one micro-batch.** The setting was `grad_accumulation = 1`, so the missing
# division is a division by one. The next cell tests the last report. Then it makes two small runs with this setting,
# one with the bug and one without, and compares all their parameters:

# %%
# about 4 s
timeline.test(5)

one = {"accumulation": 1}
pair = timeline.run.together(case.Rerun(setting=one), case.Rerun(bug, setting=one))
correct, buggy = (found.run for found in pair)
identical = bool((correct.vector == buggy.vector).all())
print(f"after {buggy.window} steps, the parameters are identical, bit for bit: {identical}")

# %% tags=["hide-input"]
# Stops if the parameters differ
if not identical:
    raise RuntimeError("the text no longer follows from the run above")

# %% [markdown]
# **Fact 2. The promised table was never measured.** The same table appears in a report that is three days older, about
# a *different* bug. Its first number, <span data-quoted="the review">0.806</span>, came from a single batch, and was
# printed while debugging.
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
    "Arrows join the first two epochs and the last. The last two rows use covlab's own network and scenes.",
)

# %% [markdown]
# ## What caused the log?
#
# Two things must happen together. *Nothing is added to the running sum*: so the log shows zero. *No step changes the
# parameters*: so the log shows a constant. These parts appear in the reports, and in the code that the project
# published five weeks later:
#
# - a term of the loss, with a weight of `0.002`, whose gradient is NaN (lesson
#   [07](07_overflow_and_sanitization.ipynb));
# - an `if` before the step (a *gate*) that silently skips the step when that happens;
# - a running sum that grows only in steps that run;
# - a loop body that lost its indentation, so backward and step happen only once per epoch, after the loop, for the last
#   batch.
#
# Together they are the first candidate, **the skipping gate**. The second candidate is **the stranded loop body**:
# backward, step and running sum moved out of the loop, into a debug block after it. The next cell tries two of the
# parts alone and together, and then both candidates:

# %%
# about 5 s
nan_term, running_sum = "gradient_through_singular_vectors", "running_sum_in_step_branch"
combinations = {
    "the NaN term alone": case.Rerun(nan_term, setting=case.ALIGNED),
    "the running sum alone": case.Rerun(running_sum),
    "both": case.Rerun(nan_term, running_sum, setting=case.ALIGNED),
    "the skipping gate": case.Rerun(*case.SKIPPING_GATE_AND_NAN_TERM, setting={"accumulation": 15} | case.ALIGNED),
    "the stranded loop body": case.Rerun(*case.NESTED_IN_DEBUG_BLOCK),
}
suspects = dict(zip(combinations, timeline.run.together(*combinations.values()), strict=True))

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
# With the NaN term alone, the parameters never change, but the logged loss is correct. The running sum alone changes
# nothing. *Together* they print the log of the case: a zero and a constant. Both candidates print it, too.
#
# Which one was it in October? Nobody knows, because that code is not public. But each part leaves its own trace: a step
# that changes no parameter, or a sum that never grows. One line that prints the update norm would have shown that no
# step changes the parameters.
#
# `covlab faults case` in a terminal runs more combinations, and `covlab faults reports` repeats the ten tests.
#
# ## What else did the review call correct?
#
# The review called the rest of the code correct. Here are three of these items, each with a measurement. The other
# items are folded.

# %% tags=["hide-input"]
# Measures the review's items, about 6 s
from covlab.faults.review import review

findings = {finding.subject: finding for finding in review(seed)}
header = ["item", "the review's view", "measured here", "result"]
first = ("gradient accumulation", "sanitization before unscale", "hard guards")
rows = {name: (name, each.claim, each.measured, each.verdict) for name, each in findings.items()}
plots.table(header, [rows[name] for name in first])
rest = [row for name, row in rows.items() if name not in first]
plots.table(header, rest, folded=f"The other {len(rest)} items")

# %% [markdown]
# ## The answer
#
# The blamed line is wrong, and worth fixing. This bug multiplies the loss and the gradient of a window by the number of
# its micro-batches. Under SGD, that acts like a larger learning rate. But the bug cannot make the train value zero. It
# cannot keep the validation constant. And in the blamed run the line only divided by one. The review found a real bug
# and blamed it for the wrong symptom.
#
# ## Where this happened to others
#
# `karpathy/nanoGPT#168` (2023; still open when we last looked, but fixed in the code that year) reports the missing
# division in one of the most widely read training loops. The author of the loop answers what you have measured here:
# under Adam the factor does no harm, but its effect on clipping is the same as dividing the threshold by the factor.
#
# ## In three lines
#
# - If you find a bug, you have not yet found the cause of what you see.
# - Ask what the bug would change, and measure exactly that.
# - A promised number is only a guess until somebody runs the code.
#
# **Next.** On the bugs path: [11 · Watch your own loop](11_watch_your_own_loop.ipynb) finds such bugs in any script. In
# the whole course: [07 · Overflow and sanitization](07_overflow_and_sanitization.ipynb) is about the NaN, and about
# runs that do not learn because they hide it.
