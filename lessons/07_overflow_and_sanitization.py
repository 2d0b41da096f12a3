# ---
# jupyter:
#   kernelspec:
#     display_name: Python 3
#     language: python
#     name: python3
# ---

# %% [markdown]
# # 07 · Overflow and sanitization
#
# **Question.** How does hiding an overflow stop a run from learning?
#
# **Bugs path** 4 of 6 · **Whole course** 8 of 12 · 45 minutes · needs 04
#
# Now and then, somebody's gradient contains NaN. So they clean it (they also say *sanitize* it):
# `torch.nan_to_num(gradient, nan=0, posinf=1, neginf=-1)`. Now the NaNs are gone. In this lesson you find out what else
# is lost. Afterwards you can
#
# - say what a loss scaler must see, and when;
# - see where a loop cleans its gradients, if you know its loss scale, gradient norm and update (the change of the
#   parameters in one step);
# - see whether the problem is an overflow or a NaN in the loss.

# %% tags=["parameters"]
profile = "cpu"
seed = 0

# %% [markdown]
# ## How a loss scaler works
#
# In fp16, overflows are part of the plan. A `GradScaler` *provokes* them: from time to time it doubles the loss scale,
# until some entry of the gradient becomes infinite. Then it knows where the limit is. A window is the set of batches
# that one optimizer step uses (its *micro-batches*). In each window, the scaler goes through four stages:
#
# ```text
# backward    adds up the gradients, each multiplied by the scale
# unscale     divides them by the scale, and REMEMBERS if an entry was not finite
# step        is skipped if an entry was not finite
# update      halves the scale if an entry was not finite;
#             doubles it after many windows in which all entries were finite
# ```
#
# (Not finite means infinite or NaN.) So an infinity is a message to the scaler. Lesson 06 is about a real training
# pipeline that cleaned its gradients. A code review called that correct. What the cleaning costs depends on where it is
# done in this list.
#
# The explorer below shows a correct scaler. Choose another scale to start from, or let it double the scale more often.

# %%
# about 8 s: loads PyTorch, and computes what the explorer needs
from covlab.widgets import LossScaleExplorer

explorer = LossScaleExplorer(seed)
explorer.show()

# %% [markdown]
# Here is the explorer with one setting. Each cross in the second panel marks an infinity that the scaler provoked and
# saw. Its answer was to halve the scale:

# %% tags=["hide-input"]
# Draws the explorer with a scale that doubles often
explorer.still_of(
    "It starts at 2¹⁶, doubles every 4 windows, and reaches its limit again and again", {"scale": 16.0, "growth": 4.0}
)

# %% [markdown]
# ## Predict
#
# A network is trained in fp16. The loss scale starts too high, at 2²⁸, where its gradient overflows.

# %%
from covlab.course import check, choose_device, measure, outcome, predict

predict(
    "07.before",
    "Infinities are replaced BEFORE unscale. The loss scale will …",
    ["fall until the gradient fits", "stay, or rise"],
)

# %%
predict(
    "07.after",
    "Infinities are replaced AFTER unscale, and the trainer runs a step if the gradient norm is finite. "
    "Windows that overflow …",
    ["are skipped", "take a step"],
)

# %% [markdown]
# ## The experiment
#
# covlab, the Python package of this course, can switch bugs on. Each bug replaces one method of its trainer. The first
# bug adds these lines before unscale:

# %% tags=["hide-input"]
# Prints the lines that clean the gradient before unscale
from covlab.faults import FAULTS

print(FAULTS["sanitize_before_unscale"].diff())

# %% [markdown]
# The second bug adds the same lines after unscale. The last line below measures the gradient norm. The trainer then
# takes the step if this norm is finite:

# %% tags=["hide-input"]
# Prints the lines that clean the gradient after unscale
print("\n".join(FAULTS["sanitize_after_unscale"].diff().splitlines()[3:9]))

# %% [markdown]
# Three runs start from the same seed: one correct run, and one run with each bug. Each run has 32 windows. The scale
# doubles after every 4 windows without an overflow. (PyTorch's default is 2000, which would take too long here.)
# `record_overflows` notes which windows overflowed, before anything can clean them.

# %%
import torch

from covlab.course.experiments.overflow_record import record_overflows
from covlab.faults.small_run import finish, small_run

choose_device(profile)  # these runs are small, and stay on the CPU


def run(*bugs, start=2.0**28, **setting):
    setting = {"precision": "fp16", "loss_scale": start, "windows": 32} | setting
    trainer = small_run(*bugs, seed=seed, **setting)
    trainer.scaler.set_growth_interval(4)
    overflowed = record_overflows(trainer)
    return finish(trainer), overflowed


runs = {
    "correct": run(),
    "cleaned before unscale": run("sanitize_before_unscale"),
    "cleaned after unscale": run("sanitize_after_unscale"),
}


# %% tags=["hide-input"]
# Shows what happened, beside your predictions
def stepped_on(trainer, overflowed):
    """How many windows overflowed and still took a step."""
    return sum(over and row["ran"] == 1 for over, row in zip(overflowed, trainer.ledger.rows))


def reached(trainer):
    return trainer.history[-1]["validation"]


(correct, _), (before, _), (after, after_overflowed) = runs.values()
rose = before.ledger.rows[-1]["loss_scale"] >= 2.0**28
outcome(
    "07.before",
    "stay, or rise" if rose else "fall until the gradient fits",
    because="The scaler only sees finite gradients. So it never halves the scale. It doubles it instead.",
)
outcome(
    "07.after",
    "take a step" if stepped_on(after, after_overflowed) else "are skipped",
    because="The scaler remembers the overflow. But the trainer checks the norm, and the cleaning made the norm finite.",
)
measure("07.honest_skips", sum(row["ran"] == 0 for row in correct.ledger.rows))
measure("07.honest_nmse", reached(correct))
measure("07.before_power", torch.tensor(before.ledger.rows[-1]["loss_scale"]).log2())
measure("07.before_nmse", reached(before))
measure("07.honest_norm", next(row["gradient_norm"] for row in correct.ledger.rows if row["ran"]))
measure("07.after_first_norm", after.ledger.rows[0]["gradient_norm"])
measure("07.after_stepped_on", stepped_on(after, after_overflowed))
measure("07.after_nmse", reached(after))

# %% tags=["hide-input"]
# Draws loss scale, gradient norm and update of the three runs
from covlab import plots
from covlab.plots.overflow_history import overflow_history

plots.show(
    overflow_history(runs),
    "Three runs, each with its loss scale, gradient norm and update over 32 windows. Correct: the scale falls from 2 "
    "to the 28 to about 2 to the 21. The windows that overflow are skipped and change no parameter. Cleaned before "
    "unscale: every window overflows and every step runs. The scale rises, the norm falls to zero, the updates shrink. "
    "Cleaned after unscale: the scale falls as in the correct run, but the windows that overflow take a step. At first, "
    "their norms are far larger than those of the others.",
)


# %% tags=["hide-input"]
# Tabulates overflows, skipped steps and the error that was reached
def summary(label, trainer, overflowed):
    rows = trainer.ledger.rows
    skipped, on = sum(row["ran"] == 0 for row in rows), stepped_on(trainer, overflowed)
    power = torch.tensor(rows[-1]["loss_scale"]).log2().item()
    return label, sum(overflowed), skipped, on, f"2^{power:.0f}", f"{reached(trainer):.3f}"


plots.table(
    ["run", "overflowed", "skipped", "overflowed, step ran", "loss scale at the end", "NMSE reached"],
    [summary(label, *each) for label, each in runs.items()],
    "32 windows each. The NMSE is the error. 0 is perfect, and an untrained network has about 0.9.",
)

# %% [markdown]
# Look at the figure row by row. (A range in the text covers five seeds. In every run the updates shrink at the end,
# because the learning rate shrinks. In the second run, there are still updates although the gradient is zero. The
# reason is the optimizer, AdamW: it keeps a running mean of the gradients, which still contains those of the first
# windows.)
#
# - **Correct.** <span data-claim="07.honest_skips">10 to 11</span> of 32 steps are skipped. In return, the scaler finds
#   a scale that fits, and the run reaches an NMSE of <span data-claim="07.honest_nmse">0.50 to 0.61</span>.
# - **Cleaned before unscale.** No step is skipped, and the scale rises to 2 to the power of
#   <span data-claim="07.before_power">36</span>. Each infinity becomes a 1, which unscale then divides by hundreds of
#   millions. Every window overflows, and soon the gradient is zero. The run ends with an NMSE of
#   <span data-claim="07.before_nmse">0.89 to 0.91</span>: it learned almost nothing, and **nothing in its log looks
#   wrong**.
# - **Cleaned after unscale.** The scaler sees the overflow, so the scale falls. But then each infinity becomes a 1. The
#   *norm* of a whole correct gradient is only <span data-claim="07.honest_norm">0.04 to 0.07</span>. With these ones in
#   the gradient, the norm is <span data-claim="07.after_first_norm">60 to 69</span>. This norm is finite, so the
#   trainer takes <span data-claim="07.after_stepped_on">11 to 12</span> steps in directions that `nan_to_num` invented.
#   This run still learns and reaches <span data-claim="07.after_nmse">0.58 to 0.68</span>. Another run may not learn.
#
# ## What decides whether the step is taken?
#
# You may say: PyTorch's own `scaler.step` skips the step, even if the gradient is cleaned after unscale. That is true
# if the loop calls `scaler.step`. Compare it with a loop that checks the gradient norm instead:


# %%
def after_cleaning(step):
    """Does a parameter move if its gradient is cleaned after unscale?"""
    parameter = torch.ones(3, requires_grad=True)
    optimizer = torch.optim.SGD([parameter], lr=0.1)
    scaler = torch.amp.GradScaler("cpu")
    loss = (parameter * torch.tensor([1.0, float("inf"), 1.0])).sum()
    scaler.scale(loss).backward()
    scaler.unscale_(optimizer)
    torch.nan_to_num_(parameter.grad, nan=0.0, posinf=1.0, neginf=-1.0)
    step(optimizer, scaler, parameter)
    return "moves" if (parameter != 1).any() else "stays"


def scaler_decides(optimizer, scaler, parameter):
    scaler.step(optimizer)


def norm_decides(optimizer, scaler, parameter):
    if parameter.grad.norm().isfinite():
        optimizer.step()


# %% tags=["hide-input"]
# Tabulates whether the parameter moves in each case
plots.table(
    ["what decides", "the parameter"],
    [("`scaler.step(optimizer)`", after_cleaning(scaler_decides)), ("the gradient norm", after_cleaning(norm_decides))],
)

# %% [markdown]
# Some loops check the gradient norm themselves, for example to skip very large gradients. If the gradient was cleaned
# first, such a loop takes the step. And even if the scaler decides, the loop computes the gradient norm, the clipping
# and the log from invented numbers. In the pipeline of lesson 06 the scaler decided. It skipped every step, but the
# pipeline's own log reported that each step was taken.
#
# ## Find and fix: a step with a loss scale
#
# Somebody wrote a simple loss scaler in a few lines. It never skips a step, and its scale never falls.

# %% tags=["exercise"]
import torch


def honest_step(parameter, scaled, scale):
    """One step with learning rate 0.1. `scaled` [P]: gradient times scale -> (parameter [P], scale after it)."""
    scaled = torch.nan_to_num(scaled, nan=0.0, posinf=1.0, neginf=-1.0)
    if not scaled.isfinite().all():
        return parameter, scale / 2
    return parameter - 0.1 * scaled / scale, scale


# %% tags=["solution"]
def honest_step(parameter, scaled, scale):
    """One step with learning rate 0.1. `scaled` [P]: gradient times scale -> (parameter [P], scale after it)."""
    if not scaled.isfinite().all():
        return parameter, scale / 2
    return parameter - 0.1 * scaled / scale, scale


# %%
check("07.honest_step", honest_step)

# %% [markdown]
# ## A NaN in every window
#
# In the pipeline of lesson 06 the NaNs did not come from overflows. One term of the loss, with a weight of `0.002`, had
# a gradient of NaN. (This term used the singular vectors of a matrix. Their derivative divides by differences of
# singular values. If two singular values are equal, the result is NaN.)
#
# The next cells run such a term in three loops. The first loop is correct and uses fp16. The second also uses fp16, but
# cleans its gradients before unscale. The third uses single precision, has no scaler, and cleans its gradients. The
# scale starts at 2¹⁶, which is PyTorch's default. Weight decay, which shrinks the parameters in every step, is off.

# %%
predict(
    "07.nan",
    "A term of the loss has a gradient of NaN in every window. The loop is correct. Its loss scale will …",
    ["stay", "fall a few times", "fall in every window"],
)

# %%
nan_term = "gradient_through_singular_vectors"
weights = {"lam_cov": 1.0, "lam_subspace_align": 0.002}
aligned = dict(weights=weights, start=2.0**16, weight_decay=0.0)
sick = {
    "correct, fp16": run(nan_term, **aligned),
    "cleaned before unscale, fp16": run(
        nan_term,
        "sanitize_before_unscale",
        **aligned,
    ),
    "cleaned, no scaler, fp32": run(
        nan_term,
        "sanitize_without_scaler",
        **aligned,
        precision="fp32",
    ),
}

# %% tags=["hide-input"]
# Shows what happened, and tabulates three logs
import itertools

suffering = sick["correct, fp16"][0].ledger.rows
falls = sum(late["loss_scale"] < early["loss_scale"] for early, late in itertools.pairwise(suffering))
happened = "fall in every window" if falls == len(suffering) - 1 else "fall a few times" if falls else "stay"
outcome(
    "07.nan",
    happened,
    because="The term gives NaN at every scale. So the scaler halves the scale again and again, and it never helps.",
)


def logged(trainer):
    rows = trainer.ledger.rows
    taken, scale = sum(row["ran"] == 1 for row in rows), torch.tensor(rows[-1]["loss_scale"]).log2().item()
    moved = sum(row["update_norm"] > 0 for row in rows)
    printed = {f"{row['validation']:.6f}" for row in trainer.history}
    last_scale = f"2^{scale:.0f}" if trainer.scaler.is_enabled() else "–"
    return f"{taken} of {len(rows)}", f"{moved} of {len(rows)}", last_scale, " ".join(sorted(printed))


plots.table(
    ["NaN in every gradient", "steps in the log", "steps that moved", "last loss scale", "NMSE, in every epoch"],
    [(label, *logged(trainer)) for label, (trainer, _) in sick.items()],
)
cleaned = sick["cleaned before unscale, fp16"][0].ledger.rows
measure("07.sick_steps_taken", sum(row["ran"] == 1 for row in cleaned))
measure("07.sick_moved", sum(row["update_norm"] > 0 for row in cleaned))

# %% [markdown]
# None of the three runs learns. But look at what each of them reports.
#
# - The **correct** loop skips every step, and its scale falls in every window. You can hardly miss that, and it tells
#   you the cause. After an overflow, a few halvings are enough. So **a scale that only falls means NaN**.
# - The loops that **clean** their gradients report <span data-claim="07.sick_steps_taken">32</span> steps. The number
#   of steps that moved a parameter is <span data-claim="07.sick_moved">0</span>. The backward pass carries one NaN to
#   every parameter that the term depends on, so the cleaned gradient is all zeros. In every epoch (one pass over the
#   training data) the NMSE is the same, to six digits. The log in lesson 06 has two symptoms, and a constant NMSE is
#   one of them. Lesson 06 explains the other one.
#
# ## Find and fix: a diagnosis
#
# Somebody sends you the log of the first windows of their run. Which of the four loops named in the exercise cell wrote
# it?

# %% tags=["hide-input"]
# Tabulates the first windows of the run
from covlab.course.experiments.overflow_record import overflow_mystery_run


def line(row):
    power = torch.tensor(row["loss_scale"]).log2().item()
    return row["window"], f"2^{power:.0f}", "taken" if row["ran"] else "skipped", f"{row['gradient_norm']:.2g}"


rows = overflow_mystery_run(seed).ledger.rows
plots.table(["window", "loss scale after it", "step", "gradient norm"], [line(row) for row in rows])

# %% tags=["exercise"]
# One of: "correct loop, scale too high", "cleaned before unscale",
# "cleaned after unscale", "correct loop, NaN in the loss"
diagnosis = "correct loop, scale too high"

# %% tags=["solution"]
diagnosis = "cleaned after unscale"

# %%
check("07.diagnosis", diagnosis)

# %% [markdown]
# ## Find and fix: a line in the log
#
# This function computes the numbers that a log shows for one epoch. They always look good, even if the epoch went
# wrong.

# %% tags=["exercise"]
import torch


def epoch_line(losses):
    """(mean of the finite losses, number of those that are not), from an epoch's losses [windows]."""
    return torch.nan_to_num(losses).mean().item(), 0


# %% tags=["solution"]
def epoch_line(losses):
    """(mean of the finite losses, number of those that are not), from an epoch's losses [windows]."""
    finite = losses.isfinite()
    return losses[finite].mean().item(), int((~finite).sum())


# %%
check("07.epoch_line", epoch_line)

# %% [markdown]
# (covlab's own log is stricter. If one loss is not finite, the epoch's mean is NaN, and the number of such windows is
# printed beside it.)
#
# ## Where this happened to others
#
# **In public code and reports.**
#
# - *In a famous training loop.* `NVlabs/stylegan3` passes every gradient through `nan_to_num`, with 0 and ±1e5, right
#   before the step (`training/training_loop.py`). This loop has no loss scaler that could miss an overflow, and its
#   networks learn. But nothing counts how often a gradient is cleaned.
# - *A scale that only fell.* `NVIDIA/apex#834` (2020, open when last seen) shows a log in which every line halves the
#   scale, from 32768 to 1 and below. As you saw above, such a log points to a NaN.
# - *A scale that rose to infinity.* `pytorch/pytorch#98828` (2023, closed). A PyTorch developer proposed a limit, and
#   warned that if the scale has become that large, something else may have gone wrong already. Cleaning before unscale
#   is one thing that can have gone wrong.
# - *Only in the log.* Hugging Face's Trainer leaves NaN losses out of its log (`huggingface/transformers#13619`, merged
#   in 2021; today Trainer does this by default). `huggingface/trl#6702` (2026, closed) reports a corrupted run with a
#   clean loss curve.
#
# **What `covlab watch` found.** `covlab watch` is a tool that checks the steps of any PyTorch loop (lesson 11). In
# November 2026 we tried Hugging Face's Trainer (transformers 5.24.0) with its defaults: 40 steps, one line in the log
# per 4 steps, and one loss of NaN, in step 6. From the third line on, the log shows a loss of 0. At the end it shows a
# mean loss of <span data-quoted="covlab watch, November 2026">0.18</span>. But by then each of the 25 parameter tensors
# contains NaN. `covlab watch` reports 35 steps along a gradient that was not finite. (The number of this rule is W02.)
# With `logging_nan_inf_filter=False`, the Trainer shows the NaN in its log.
#
# ## In three lines
#
# - An infinity in the gradient is a message to the scaler. If you clean the gradient first, the scaler never gets the
#   message.
# - Cleaning *before* unscale lets the scale rise and the updates vanish. Cleaning *after* unscale lets the optimizer
#   take invented steps. A scale that only falls means NaN.
# - Never clean a gradient. Skip the step, count the skipped steps, and find out where the NaN or infinity comes from.
#
# **Next.** Bugs path: [06 · The scaling bug](06_the_scaling_bug.ipynb), the whole case. Whole course:
# [08 · Training for real](08_training_for_real.ipynb).
