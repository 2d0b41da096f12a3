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
# **Question.** How does hiding an overflow kill a run?
#
# Somebody's gradient is NaN now and then, so they mend it: `torch.nan_to_num(gradient, nan=0, posinf=1, neginf=-1)`.
# The NaNs are gone. So is something else. You will afterwards be able to
#
# - say what a loss scaler must see, and when;
# - tell three ways of mending apart by the scale, the norm and the update;
# - tell an overflow from a NaN that no scale can cure.
#
# 45 minutes to read, half a minute to run. It needs [04](04_mixed_precision.ipynb).

# %% tags=["parameters"]
profile = "cpu"
seed = 0

# %% [markdown]
# ## What an honest scaler does
#
# An overflow is no accident. A `GradScaler` *provokes* it: it doubles the loss scale every so often, until some
# number of the gradient becomes infinite. Then it knows where the ceiling is.
#
# ```text
# backward    adds gradients, each times the scale
# unscale     divides them by the scale, and REMEMBERS whether one was not finite
# step        is skipped if so
# update      halves the scale if so; doubles it after many windows without
# ```
#
# So an infinity is a message. The pipeline that lesson 06 looks at "sanitized" its gradients, and the review called
# that correct. What gets lost depends on where in this list it is done.
#
# Here is an honest scaler at work. Let it start elsewhere, or double its scale more often.

# %%
from covlab.widgets import LossScaleExplorer

explorer = LossScaleExplorer(seed)
explorer.show()

# %% [markdown]
# One of its settings, for whoever reads without a kernel. Each cross is an infinity that was provoked, seen and obeyed:

# %%
explorer.still_of(
    "It starts at 2¹⁶, doubles every 4 windows, and finds its ceiling again and again", {"scale": 16.0, "growth": 4.0}
)

# %% [markdown]
# ## Predict
#
# The loss scale starts too high, at 2²⁸, where this network's gradient overflows.

# %%
# about 5 s, most of it to load PyTorch
from covlab.course import check, choose_device, measure, outcome, predict

predict(
    "07.before",
    "Infinities are mended BEFORE unscale. The loss scale will …",
    ["fall until the gradient fits", "stay, or climb"],
)

# %%
predict(
    "07.after",
    "They are mended AFTER unscale, and the trainer decides by the norm. The windows that overflow are …",
    ["skipped", "stepped on"],
)

# %%
predict(
    "07.nan",
    "A term of the loss has a gradient of NaN in every window. The scaler is honest. The loss scale will …",
    ["stay", "fall a few times", "fall for ever"],
)

# %% [markdown]
# ## The experiment
#
# Each bug replaces one method of the trainer. First, before unscale:

# %%
import torch  # after covlab, which tells it how threads should wait

from covlab import plots
from covlab.course.experiments.overflow_record import overflow_mystery_run, record_overflows
from covlab.faults import FAULTS
from covlab.faults.small_run import finish, small_run
from covlab.plots.overflow_history import overflow_history

choose_device(profile)  # these runs are small, and stay on the CPU
print(FAULTS["sanitize_before_unscale"].diff())

# %% [markdown]
# And after unscale. Mind what is measured once the gradient is mended:

# %%
print("\n".join(FAULTS["sanitize_after_unscale"].diff().splitlines()[3:9]))

# %% [markdown]
# Three runs from one seed, 32 windows in fp16. The scale may double after every 4 windows without an overflow
# (PyTorch's default is 2000; we have no time to wait). An onlooker notes which windows overflowed, before anybody can
# mend them.


# %%
def run(*faults, start=2.0**28, **setting):
    setting = {"precision": "fp16", "loss_scale": start, "windows": 32} | setting
    trainer = small_run(*faults, seed=seed, **setting)
    trainer.scaler.set_growth_interval(4)
    overflowed = record_overflows(trainer)
    return finish(trainer), overflowed


runs = {
    "honest": run(),
    "mended before unscale": run("sanitize_before_unscale"),
    "mended after unscale": run("sanitize_after_unscale"),
}

# %% tags=["hide-input"]
plots.show(
    overflow_history(runs),
    "Three runs, each with its loss scale, gradient norm and update over 32 windows. Honest: the scale falls from 2 to "
    "the 28 to about 2 to the 21; the windows that overflow are skipped and move nothing. Mended before unscale: "
    "nearly every window overflows and every step runs; the scale climbs, the norm sinks to zero, the updates shrink. "
    "Mended after unscale: the scale falls as in the honest run, but the windows that overflow are stepped on, at "
    "first with norms a hundred times the others'.",
)


# %%
def stepped_on(trainer, overflowed):
    """How many windows overflowed, and were stepped on all the same."""
    return sum(over and row["ran"] == 1 for over, row in zip(overflowed, trainer.ledger.rows))


def summary(label, trainer, overflowed):
    rows = trainer.ledger.rows
    skipped, on = sum(row["ran"] == 0 for row in rows), stepped_on(trainer, overflowed)
    power = torch.tensor(rows[-1]["loss_scale"]).log2().item()
    return label, sum(overflowed), skipped, on, f"2^{power:.0f}", f"{trainer.history[-1]['validation']:.3f}"


plots.table(
    ["run", "overflowed", "skipped", "overflowed, step ran", "loss scale at the end", "NMSE reached"],
    [summary(label, *each) for label, each in runs.items()],
    "32 windows each. An NMSE near 0.9 is what this network knows untrained.",
)

# %%
(honest, _), (before, _), (after, after_overflowed) = runs.values()
climbed = before.ledger.rows[-1]["loss_scale"] >= 2.0**28
outcome(
    "07.before",
    "stay, or climb" if climbed else "fall until the gradient fits",
    because="Nobody tells the scaler. It sees finite gradients, and finite gradients let it grow.",
)
outcome(
    "07.after",
    "stepped on" if stepped_on(after, after_overflowed) else "skipped",
    because="The scaler remembers, but it is the norm that is asked, and the norm was made finite.",
)


# %%
def reached(trainer):
    return trainer.history[-1]["validation"]


measure("07.honest_skips", sum(row["ran"] == 0 for row in honest.ledger.rows))
measure("07.honest_nmse", reached(honest))
measure("07.before_power", torch.tensor(before.ledger.rows[-1]["loss_scale"]).log2())
measure("07.before_nmse", reached(before))
measure("07.honest_norm", next(row["gradient_norm"] for row in honest.ledger.rows if row["ran"]))
measure("07.after_first_norm", after.ledger.rows[0]["gradient_norm"])
measure("07.after_stepped_on", stepped_on(after, after_overflowed))
measure("07.after_nmse", reached(after))

# %% [markdown]
# **Why.** Read the rows of the figure. (That all updates shrink at the end is the schedule's doing. That there are any
# where the gradient is zero is AdamW's, whose running mean remembers the first windows for a while.)
#
# - **Honest.** <span data-claim="07.honest_skips">11</span> steps of 32 are skipped. That is the price, and it buys the
#   right scale: the run reaches
#   <span data-claim="07.honest_nmse">0.6</span>.
# - **Mended before unscale.** No step is skipped, the log is spotless, the scale climbs to 2 to the
#   <span data-claim="07.before_power">36</span>. Each infinity became a 1, which the scale then divides by hundreds of
#   millions, and each NaN a 0. Soon every number overflows and the gradient is zero. The run ends at
#   <span data-claim="07.before_nmse">0.90</span>: it learned next to nothing, and **nothing in the log is red**.
# - **Mended after unscale.** The scaler has seen the overflow, so the scale comes down. But each infinity is now a 1,
#   in a gradient whose honest
#   *norm* is <span data-claim="07.honest_norm">0.05</span>: the mended one's is
#   <span data-claim="07.after_first_norm">67</span>. It is finite, so
#   <span data-claim="07.after_stepped_on">11</span> steps go in directions that `nan_to_num` made up. This run survives
#   them, at
#   <span data-claim="07.after_nmse">0.68</span>. It need not.
#
# ## Who is asked?
#
# "After unscale it changes nothing", one may object: PyTorch's own `scaler.step` skips. So it does, as long as *it* is
# the one who takes the step:


# %%
def after_mending(step):
    """Does a parameter move, when its gradient overflowed and was mended after unscale?"""
    parameter = torch.ones(3, requires_grad=True)
    optimizer, scaler = torch.optim.SGD([parameter], lr=0.1), torch.amp.GradScaler("cpu")
    scaler.scale((parameter * torch.tensor([1.0, float("inf"), 1.0])).sum()).backward()
    scaler.unscale_(optimizer)
    torch.nan_to_num_(parameter.grad, nan=0.0, posinf=1.0, neginf=-1.0)
    step(optimizer, scaler, parameter)
    return "moves" if (parameter != 1).any() else "stays"


def own_gate(optimizer, scaler, parameter):
    if parameter.grad.norm().isfinite():
        optimizer.step()


plots.table(
    ["who decides", "the parameter"],
    [
        ("scaler.step(optimizer)", after_mending(lambda optimizer, scaler, parameter: scaler.step(optimizer))),
        ("a gate of one's own, by the norm", after_mending(own_gate)),
    ],
)

# %% [markdown]
# Every loop with a gate of its own (to skip outliers, say) is the second kind. And even in the first, norm, clipping
# and log see made-up numbers. So it was in the pipeline of lesson 06: its scaler, which remembered, skipped every step,
# while the loop's own log reported each as taken.
#
# ## Find and mend, 1: an honest step
#
# A scaler in four lines, with plain numbers. It never skips anything.

# %% tags=["exercise"]
import itertools

import torch


def honest_step(parameter, scaled, scale):
    """One step of rate 0.1 along a gradient that holds the loss scale [P] -> (parameter [P], scale after it)."""
    scaled = torch.nan_to_num(scaled, nan=0.0, posinf=1.0, neginf=-1.0)
    if not scaled.isfinite().all():
        return parameter, scale / 2
    return parameter - 0.1 * scaled / scale, scale


# %% tags=["solution"]
def honest_step(parameter, scaled, scale):
    """One step of rate 0.1 along a gradient that holds the loss scale [P] -> (parameter [P], scale after it)."""
    if not scaled.isfinite().all():
        return parameter, scale / 2
    return parameter - 0.1 * scaled / scale, scale


# %%
check("07.honest_step", honest_step)

# %% [markdown]
# ## A NaN that no scale can cure
#
# In the pipeline of lesson 06 the NaNs were no overflows at all. A term of the loss, with a weight of `0.002`, went
# backward through singular vectors, whose derivative divides by differences of singular values; equal ones give NaN.
# Here is such a term, with an honest scaler, with mending, and in single precision without a scaler. The scale starts
# at 2¹⁶, as PyTorch's does; weight decay is off.

# %%
aligned = dict(weights={"lam_cov": 1.0, "lam_subspace_align": 0.002}, start=2.0**16, weight_decay=0.0)
nan_term = "gradient_through_singular_vectors"
sick = {
    "honest, fp16": run(nan_term, **aligned),
    "mended before unscale, fp16": run(nan_term, "sanitize_before_unscale", **aligned),
    "mended, no scaler, fp32": run(nan_term, "sanitize_without_scaler", **aligned, precision="fp32"),
}


def told(trainer):
    rows = trainer.ledger.rows
    taken, scale = sum(row["ran"] == 1 for row in rows), torch.tensor(rows[-1]["loss_scale"]).log2().item()
    moved = sum(row["update_norm"] > 0 for row in rows)
    printed = {f"{row['validation']:.6f}" for row in trainer.history}
    return f"{taken} of {len(rows)}", f"{moved} of {len(rows)}", f"2^{scale:.0f}", " ".join(sorted(printed))


plots.table(
    [
        "a NaN in every gradient",
        "steps logged as taken",
        "that moved anything",
        "last loss scale",
        "validation, every epoch",
    ],
    [(label, *told(trainer)) for label, (trainer, _) in sick.items()],
)

# %%
suffering = sick["honest, fp16"][0].ledger.rows
falls = sum(late["loss_scale"] < early["loss_scale"] for early, late in itertools.pairwise(suffering))
happened = "fall for ever" if falls == len(suffering) - 1 else "fall a few times" if falls else "stay"
outcome("07.nan", happened, because="NaN divided by two is NaN: no scale is small enough.")
mended = sick["mended before unscale, fp16"][0].ledger.rows
measure("07.sick_steps_taken", sum(row["ran"] == 1 for row in mended))
measure("07.sick_moved", sum(row["update_norm"] > 0 for row in mended))

# %% [markdown]
# None of the three learns. But look at what each *says*:
#
# - The **honest** one skips every step, and its scale falls for ever. That is loud, and it is a diagnosis: an overflow
#   is cured by a few halvings, **a scale that only falls means NaN**.
# - The **mended** ones report <span data-claim="07.sick_steps_taken">32</span> steps taken. Steps that moved a
#   parameter:
#   <span data-claim="07.sick_moved">0</span>. Since one NaN spreads through backward to every parameter before it, what
#   is mended is a gradient of zeros. Validation is the same to six digits in every epoch. This is half of what the
#   source's log shows; lesson 06 has the other half.
#
# ## Find and mend, 2: a diagnosis
#
# Somebody sends you the first windows of a run of theirs. Which of the four in the cell below is it?


# %%
def line(row):
    power = torch.tensor(row["loss_scale"]).log2().item()
    return row["window"], f"2^{power:.0f}", "taken" if row["ran"] else "skipped", f"{row['gradient_norm']:.2g}"


rows = overflow_mystery_run(seed).ledger.rows
plots.table(["window", "loss scale after it", "step", "gradient norm"], [line(row) for row in rows])

# %% tags=["exercise"]
# "honest, scale too high", "mended before unscale", "mended after unscale" or "a NaN in the loss, honest"
diagnosis = "honest, scale too high"

# %% tags=["solution"]
diagnosis = "mended after unscale"

# %%
check("07.diagnosis", diagnosis)

# %% [markdown]
# ## Find and mend, 3: the line in the log
#
# The same mending, one floor up: a NaN in the *loss* is taken for zero, so that the log looks tidy. (covlab's own log
# is stricter than what you are to write: one such window makes the epoch's value NaN, and the count stands beside it.)

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
# ## Where this happened to others
#
# - **In a famous loop.** `NVlabs/stylegan3`, `training/training_loop.py`, passes every gradient through `nan_to_num`
#   with 0 and ±1e5, right before the step. It has no loss scaler to blind, and its networks train; but nothing counts
#   how often it happens.
# - **A scale that climbed to infinity.** `pytorch/pytorch#98828` (2023, closed). A PyTorch developer proposed a cap
#   there, and warned that if the scale has gone that large, something else may have gone wrong already. You have just
#   built one such something.
# - **In the log alone.** `huggingface/transformers#13619` (merged, 2021) lets NaN losses be replaced in the log.
#   `huggingface/trl#6702` (2026, closed) reports what that costs: a corrupted run with a clean loss curve.
#
# ## In three lines
#
# - An infinity is a message from the gradient to the scaler; whoever mends it first has cut the line.
# - Mended before unscale the scale climbs and updates vanish; mended after, made-up steps are taken; a scale that only
#   falls means NaN.
# - Never mend: skip, count, and find out where it comes from.
#
# **Onward.** All of these leave a trace that can be read from any loop, without changing it:
# [11 · Watch your own loop](11_watch_your_own_loop.ipynb). The whole case is in
# [06 · The scaling bug](06_the_scaling_bug.ipynb).
