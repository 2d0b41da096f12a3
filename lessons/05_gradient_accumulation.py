# ---
# jupyter:
#   kernelspec:
#     display_name: Python 3
#     language: python
#     name: python3
# ---

# %% [markdown]
# # 05 · Gradient accumulation
#
# **Question.** When is an accumulated step the same as the step of the big batch?
#
# **Bugs path** 2 of 6 · **Whole course** 6 of 12 · 45 minutes · needs no other lesson
#
# Suppose a batch does not fit into memory. You cut it into *micro-batches*, run `backward` on each, and take one
# optimizer step for all of them. This is *gradient accumulation*. The micro-batches of one optimizer step are called a
# **window**.
#
# Almost every loop that accumulates gradients divides each loss by the number of micro-batches. In this lesson you find
# out when that division is correct. Afterwards you can
#
# - say with one number how different two gradients are;
# - choose the weights of micro-batches of different sizes, and of a short last window;
# - say what an optimizer does with a gradient of the wrong length, and where you can see the error.

# %% tags=["parameters"]
profile = "cpu"
seed = 0

# %% [markdown]
# ## Predict
#
# In this course a training example is called a *scene*. Here are three windows:
#
# | window | scenes in its micro-batches |
# |---|---|
# | even | 32, 32, 32, 32 |
# | ragged | 32, 32, 32, 4 |
# | short | 32, 32 |
#
# "Ragged" means that the sizes differ. "Short" means that the window has fewer micro-batches than the others. All three
# windows use the common rule: *divide the mean loss of each micro-batch by 4*. Compare each window's gradient with the
# gradient of the same scenes in one big batch. Answer before you read on.

# %%
# Loads PyTorch, which takes about 5 s.
from covlab.course import check, choose_device, choose_scenario, measure, outcome, predict

compared = [
    "the correct direction and length",
    "the correct direction, another length",
    "another direction",
]
predict("05.ragged", "The gradient of the ragged window, divided by 4, has …", compared)

# %%
predict("05.short", "The gradient of the short window, divided by 4, has …", compared)

# %% [markdown]
# ## The experiment
#
# A small network computes a matrix for each scene. `nmse` returns the error of each matrix, and the loss is the mean of
# these errors. The function below shows everything that gradient accumulation needs: `backward` *adds* to the gradient
# that is already there, and the loss of each micro-batch is multiplied by a weight.

# %%
import torch

from covlab.course.experiments.micro_batches import cut
from covlab.course.experiments.scenes_and_network import scenes_and_network

device = choose_device(profile)
scenes, model = scenes_and_network(choose_scenario(device), device, seed, "windows")


def window_gradient(model, micro_batches, weights):
    """The gradient that one window leaves, all parameters in one vector [P]."""
    model.zero_grad()
    for batch, weight in zip(micro_batches, weights):
        loss = model(batch.y, batch.H, batch.codes, batch.snr_db).nmse(batch).mean()
        (weight * loss).backward()
    return torch.cat([p.grad.flatten() for p in model.parameters() if p.grad is not None])


# %% [markdown]
# Three rules for the weights are common. Each rule gets a list `n`: the number of scenes in each micro-batch.
#
# One number compares a window's gradient g₁ with the gradient g₂ of one big batch: ‖g₁ − g₂‖ / ‖g₂‖. Here ‖g‖ is the
# norm, the length of the vector, over *all* parameters together. The number is 0 if both gradients are equal. We call
# it the *error of the gradient*.

# %%
windows = {"even": [32, 32, 32, 32], "ragged": [32, 32, 32, 4], "short": [32, 32]}
rules = {
    "no division": lambda n: [1.0] * len(n),
    "divide by 4": lambda n: [1 / 4] * len(n),
    "divide by len(n)": lambda n: [1 / len(n)] * len(n),
}


def error(g, reference):
    return ((g - reference).norm() / reference.norm()).item()


# %% tags=["hide-input"]
# Computes the gradient of each window under each rule
def compare(model, rules):
    """{rule: {window: (gradient, gradient of the big batch)}}"""
    found = {rule: {} for rule in rules}
    for name, n in windows.items():
        big = window_gradient(model, cut(scenes, [sum(n)]), [1.0])
        for rule, weights in rules.items():
            found[rule][name] = window_gradient(model, cut(scenes, n), weights(n)), big
    return found


def length(g, reference):
    return (g.norm() / reference.norm()).item()


def angle(g, reference):
    return torch.rad2deg(torch.acos((g @ reference / g.norm() / reference.norm()).clamp(-1, 1))).item()


def in_words(g, reference):
    if error(g, reference) < 1e-5:
        return compared[0]
    return compared[1 if angle(g, reference) < 1 else 2]


gradients = compare(model, rules)
usual = gradients["divide by 4"]
measure("05.ragged_angle", angle(*usual["ragged"]))
measure("05.short_length", length(*usual["short"]))

# %% tags=["hide-input"]
# Shows what happened, beside your predictions
outcome(
    "05.ragged",
    in_words(*usual["ragged"]),
    because="All four micro-batches have the same weight. So a scene in the micro-batch of 4 counts eight times as much "
    "as a scene in a micro-batch of 32.",
)
outcome(
    "05.short",
    in_words(*usual["short"]),
    because="Two micro-batches with a weight of 1/4 each add up to half of their mean.",
)

# %% tags=["hide-input"]
# Tabulates length and direction of all nine gradients
from covlab import plots

plots.table(
    ["rule", *(f"{name}: length, angle" for name in windows)],
    [(rule, *(f"{length(*pair):.2f}×, {angle(*pair):.0f}°" for pair in of.values())) for rule, of in gradients.items()],
    "The window's gradient compared with that of the big batch. A length of 1.00× and an angle of 0° are correct.",
)

# %% [markdown]
# A gradient can be wrong in two ways: its length and its direction. Read the table column by column.
#
# - **Even.** Divided by 4, the gradient is correct. Without the division it is four times too long.
# - **Short.** Divided by 4, the direction is correct and the length is
#   <span data-claim="05.short_length">0.50</span> of the correct one. Divided by the number of micro-batches that the
#   window really has, it is correct.
# - **Ragged.** All three rules give the gradient a wrong direction. The angle is
#   <span data-claim="05.ragged_angle">24 to 33</span>° depending on the seed. (A range in the text covers five seeds.)
#   No learning rate can correct a wrong direction.
#
# So none of the three rules is correct for every window.
#
# ## Find and fix: weights for any window
#
# A colleague's loop multiplies the *mean* loss of each micro-batch by its weight. This function computes the weights.
# For some windows, the gradient differs from that of the big batch.

# %% tags=["exercise"]
import torch


def window_weights(counts):
    """Weights of a window's micro-batches, from their numbers of scenes [m] -> [m]."""
    return torch.full(counts.shape, 1 / len(counts))


# %% tags=["solution"]
import torch


def window_weights(counts):
    """Weights of a window's micro-batches, from their numbers of scenes [m] -> [m]."""
    return counts / counts.sum()


# %%
check("05.window_weights", window_weights)

# %% [markdown]
# ## One rule for every window
#
# Call $\ell_i$ the mean loss of micro-batch $i$, which has $n_i$ scenes. The mean loss over all scenes is
#
# $$\frac{n_1\ell_1 + \dots + n_m\ell_m}{n_1 + \dots + n_m}$$
#
# so the weight of micro-batch $i$ is $n_i / (n_1 + \dots + n_m)$. The figure calls this rule "divide by scenes" and
# compares it with the other three:

# %%
rules["divide by scenes"] = lambda n: [count / sum(n) for count in n]

# %% tags=["hide-input"]
# Draws the gradient error of four rules
from covlab.plots.window_gradients import gradient_errors


def errors(gradients):
    return {rule: {name: error(*pair) for name, pair in of.items()} for rule, of in gradients.items()}


gradients = compare(model, rules)
measured = errors(gradients)
plots.show(
    gradient_errors(measured, equal=1e-5),
    "Four rules, three windows each, on a logarithmic axis of the gradient's error. Without a division all three "
    "windows are wrong, by one to four times the gradient. Divided by 4, the even window is correct up to rounding, "
    "near 1e-7; the ragged and the short one are wrong by about a half. Divided by the number of micro-batches, only "
    "the ragged one is wrong. Divided by scenes, all three are correct.",
)
if max(measured["divide by scenes"].values()) > 1e-5:
    raise RuntimeError("the correct rule no longer gives the gradient of the big batch")

# %% [markdown]
# In the last row, all three marks lie in the gray area: there the gradient equals that of the big batch, up to
# rounding.
#
# For this rule, the loop must know the window's number of scenes *before* its first `backward`. So the trainer of
# covlab, the Python package of this course, reads a whole window of micro-batches first. Then it computes each loss as
# `torch.dot(losses.total, micro_batch.weight) / window_weight`: the weighted sum of the scenes' losses, divided by the
# sum of all weights in the window. There is another way: sum the errors of all scenes, and divide the gradient once,
# just before the step.
#
# ## Why compare all parameters together?
#
# It is tempting to compare the gradients entry by entry. The next cell does that for the even window and the correct
# rule:

# %% tags=["hide-input"]
# Tabulates the error of the whole gradient, and of single entries
g, reference = gradients["divide by scenes"]["even"]
entries = ((g - reference).abs() / reference.abs())[reference != 0]
plots.table(
    ["even window, correct rule", "relative error"],
    [
        ("all entries together", f"{error(g, reference):.0e}"),
        ("median entry", f"{entries.median():.0e}"),
        ("worst entry", f"{entries.max():.0e}"),
    ],
)
if entries.max() < 100 * error(g, reference):
    raise RuntimeError("the explanation below no longer follows from the measurement above")

# %% [markdown]
# The error of the worst entry is far larger than that of the whole gradient, but nothing is wrong. If you add the same
# numbers in another order, the sum is rounded differently. Some entries are close to zero because large numbers cancel.
# The rounding error does not cancel, so the *relative* error of such an entry is large. The norm over all entries does
# not have this problem. In single precision (32 bits per number), this course calls two gradients equal if ‖g₁ − g₂‖ /
# ‖g₂‖ is below 1e-5.
#
# ## When no weights help
#
# The network above uses layer normalization, which scales each scene on its own. Now replace it with batch
# normalization, which scales each scene by statistics of its whole micro-batch. This is the error of the gradient with
# the correct weights:

# %% tags=["hide-input"]
# Measures the gradient error of a network with batch normalization
from covlab.course.experiments.micro_batches import with_batch_norm

torch.manual_seed(seed)
batch_normed = with_batch_norm(model)
by_mode = {
    "training mode": errors(compare(batch_normed.train(), rules))["divide by scenes"],
    "evaluation mode": errors(compare(batch_normed.eval(), rules))["divide by scenes"],
}
plots.table(
    ["with batch normalization", *windows],
    [(mode, *(f"{value:.0e}" for value in of.values())) for mode, of in by_mode.items()],
    "Error of the window's gradient.",
)
measure("05.batch_norm_error", by_mode["training mode"]["even"])

# %% [markdown]
# In training mode all three windows are wrong. The error of the even window is
# <span data-claim="05.batch_norm_error">0.19 to 0.28</span> of the correct gradient. The weights are correct. But if
# you cut the batch into other micro-batches, the network computes a different output for each scene. In evaluation mode
# the statistics are fixed, so the gradients are equal again.
#
# So an accumulated step is the same as the step of the big batch under **two conditions**:
#
# 1. Every scene has the same weight.
# 2. No scene's error depends on the other scenes in its micro-batch.
#
# ## What the optimizer does with a wrong gradient
#
# Now an optimizer takes steps along the wrong gradients. An epoch (one pass over the training scenes) has ten
# micro-batches. A window has four, so every third window is short. There are two buggy runs for each optimizer: one has
# *no division*, and in the other *the short window is divided by 4*. Each of them starts from the same parameters as a
# correct run, and sees the same scenes.
#
# The two optimizers are SGD and AdamW. SGD (without momentum) multiplies the gradient by the learning rate. AdamW works
# on each entry alone: it divides a running mean of the gradient by the square root of a running mean of the squared
# gradient. Some loops also shorten, or *clip*, long gradients. These runs do not.

# %%
predict(
    "05.adamw",
    "The division is missing, the optimizer is AdamW, and no gradient is clipped. The steps are …",
    ["about as long as the correct ones", "about twice as long", "four times as long"],
)

# %%
# about 3 s
from covlab.faults.small_run import finish, small_run

optimizers = {
    "SGD": dict(optimizer="sgd", momentum=0.0, learning_rate=0.01),
    "AdamW": dict(optimizer="adamw", learning_rate=1e-3),
}
bugs = {
    "no division": "missing_division",
    "short window by 4": "short_window_by_full_count",
}


def run(*bug, **recipe):
    setting = dict(scenes=160, micro_batch=16, windows=12, warmup=0, weight_decay=0.0)
    return finish(small_run(*bug, seed=seed, **setting, **recipe))


runs = {}
for name, recipe in optimizers.items():
    buggy = {label: run(bug, **recipe, clip=None) for label, bug in bugs.items()}
    runs[name] = (run(**recipe, clip=None), buggy)


# %% tags=["hide-input"]
# Shows what happened, beside your prediction
def step_ratio(name, label, number):
    correct, buggy = runs[name]
    return buggy[label].ledger.rows[number]["update_norm"] / correct.ledger.rows[number]["update_norm"]


longer = step_ratio("AdamW", "no division", 0)
outcome(
    "05.adamw",
    "about as long as the correct ones"
    if longer < 1.4
    else "about twice as long"
    if longer < 3
    else "four times as long",
    because="The factor is in the running mean of the gradient, and also in the square root of the running mean of its "
    "square. So it cancels.",
)
measure("05.adamw_first_step", longer)
measure("05.adamw_short_step", step_ratio("AdamW", "short window by 4", 2))
measure("05.sgd_first_step", step_ratio("SGD", "no division", 0))
measure("05.sgd_short_step", step_ratio("SGD", "short window by 4", 2))

# %% tags=["hide-input"]
# Draws gradient norms and steps of both bugs
from covlab.plots.window_gradients import ratios_by_window

plots.show(
    ratios_by_window(runs, {"gradient_norm": "gradient", "update_norm": "step taken"}),
    "Four panels: gradient norm and update norm over twelve windows, each of two buggy runs divided by that of the "
    "correct run. In both rows the gradients draw a sawtooth: 4, 4, 2 without division, and 1, 1, one half with the "
    "short window divided by 4. Under SGD the steps draw the same sawtooth. Under AdamW the steps of both buggy runs "
    "are as long as the correct ones in every window.",
)

# %% [markdown]
# Each curve is a buggy run divided by the correct run, so 1 is correct. Look at the left column first, the gradients.
# Both bugs draw a sawtooth: 4, 4, 2 without the division, and 1, 1, ½ with the short window divided by 4. The right
# column shows the steps.
#
# - **SGD** makes steps that are wrong by the same factor. Without the division, its first step is
#   <span data-claim="05.sgd_first_step">4.0</span>&nbsp;times as long as the correct one. In a short window divided by
#   4, the step has <span data-claim="05.sgd_short_step">0.5</span> of the correct length.
# - **AdamW** hides both bugs. Without the division, its first step is
#   <span data-claim="05.adamw_first_step">1.00</span>&nbsp;times as long as the correct one. In the short window
#   divided by 4, the step is <span data-claim="05.adamw_short_step">0.98 to 1.00</span>&nbsp;times as long as the
#   correct one.
#
# Why does AdamW hide the short window, too? Here the factor is not constant: only the newest gradient is halved. Take
# three equal gradients and halve the newest one. The next cell computes AdamW's step in the third window. It includes
# the bias correction, which is AdamW's way to correct running means that have seen only a few values:

# %%
# The weight of the newest of three gradients in the running means
in_mean, in_squares = ((1 - beta) / (1 - beta**3) for beta in (0.9, 0.999))
# What remains of both means if the newest gradient is halved
numerator, denominator = 1 - in_mean / 2, (1 - in_squares * 3 / 4) ** 0.5

# %% tags=["hide-input"]
# Tabulates the effect of one halved gradient on AdamW's step
plots.table(
    ["AdamW in the third window", "weight of the newest gradient", "factor if it is halved"],
    [
        ("running mean (numerator)", f"{in_mean:.0%}", f"{numerator:.2f}"),
        ("root of the running mean of squares (denominator)", f"{in_squares:.0%}", f"{denominator:.2f}"),
        ("step", "", f"{numerator / denominator:.2f}"),
    ],
)
measure("05.newest_in_mean", 100 * in_mean)
measure("05.newest_in_squares", 100 * in_squares)
measure("05.step_if_halved", numerator / denominator)

# %% [markdown]
# The newest gradient has a weight of <span data-claim="05.newest_in_mean">37</span>&nbsp;% in the numerator, and its
# square a weight of <span data-claim="05.newest_in_squares">33</span>&nbsp;% in the denominator. So numerator and
# denominator shrink by almost the same factor, and the step keeps <span data-claim="05.step_if_halved">0.94</span> of
# its length. (In the run above the three gradients are not equal, and the step loses even less.)
#
# Under AdamW, the two bugs even look the same: 4, 4, 2 is four times 1, 1, ½, and a constant factor cancels.
#
# So even if a run under AdamW looks healthy, its windows may have wrong weights. **Look at the gradient norm instead**:
# its sawtooth shows both bugs, with SGD and with AdamW.
#
# Try it yourself. In this run the division is missing. Choose the optimizer, the number of micro-batches, and whether
# long gradients are clipped. Which curves differ from the correct run, and under which optimizer?

# %%
from covlab.widgets import ScalingBugExplorer

explorer = ScalingBugExplorer(fault="missing_division", seed=seed)
explorer.show()

# %% [markdown]
# ## What clipping shows
#
# *Clipping* shortens each gradient whose norm is above a threshold. The threshold is absolute, so it does notice when
# every gradient is four times too long. Here the threshold is the median gradient norm of the correct run. In how many
# windows is the gradient clipped?

# %% tags=["hide-input"]
# Counts the clipped windows of three runs
norms = sorted(runs["AdamW"][0].ledger.columns()["gradient_norm"])
threshold = norms[len(norms) // 2]


def clipped_windows(*bug):
    trainer = run(*bug, **optimizers["AdamW"], clip=threshold)
    return sum(row["gradient_norm"] > threshold for row in trainer.ledger.rows)


clipped = {"correct": clipped_windows(), **{label: clipped_windows(bug) for label, bug in bugs.items()}}
plots.table(["AdamW, with clipping", "windows clipped, of 12"], list(clipped.items()))
measure("05.clipped_right", clipped["correct"])
measure("05.clipped_without_division", clipped["no division"])

# %% [markdown]
# The correct run is clipped in <span data-claim="05.clipped_right">5 to 6</span> of 12 windows, the run without the
# division in <span data-claim="05.clipped_without_division">11 to 12</span>. So log the gradient norm *before*
# clipping, and count how often the gradient is clipped. This costs almost nothing, and it shows a wrong factor even
# where AdamW hides it.
#
# ## Find and fix: an epoch of training
#
# This function trains a linear model with plain SGD and a learning rate of `0.1`, for one epoch. All micro-batches have
# the same size. The loss falls, but the function does not do what its docstring says: the parameters at the end are
# wrong.


# %% tags=["exercise"]
def trained_epoch(start, micro_batches, accumulation):
    """Parameter [P] after an epoch of one step per window; micro_batches: (inputs [4, P], targets [4]) each."""
    parameter = start.clone().requires_grad_()
    for number, (inputs, targets) in enumerate(micro_batches):
        loss = (inputs @ parameter - targets).square().mean() / accumulation
        loss.backward()
        if (number + 1) % accumulation == 0:
            parameter.data -= 0.1 * parameter.grad
            parameter.grad = None
    return parameter.detach()


# %% tags=["solution"]
def trained_epoch(start, micro_batches, accumulation):
    """Parameter [P] after an epoch of one step per window; micro_batches: (inputs [4, P], targets [4]) each."""
    parameter = start.clone().requires_grad_()
    for first in range(0, len(micro_batches), accumulation):
        window = micro_batches[first : first + accumulation]
        for inputs, targets in window:
            loss = (inputs @ parameter - targets).square().mean() / len(window)
            loss.backward()
        parameter.data -= 0.1 * parameter.grad
        parameter.grad = None
    return parameter.detach()


# %%
check("05.trained_epoch", trained_epoch)

# %% [markdown]
# ## Find and fix: a clipped gradient
#
# In this loop all micro-batches have four scenes, and the division is correct. But the gradient that it returns does
# not have the direction of the big batch's gradient.

# %% tags=["exercise"]
import torch


def clipped_gradient(parameter, micro_batches, most):
    """The window's gradient, clipped to a norm of `most` [P]; micro_batches: (inputs [4, P], targets [4]) each."""
    for inputs, targets in micro_batches:
        loss = (inputs @ parameter - targets).square().mean() / len(micro_batches)
        loss.backward()
        torch.nn.utils.clip_grad_norm_([parameter], most)
    return parameter.grad


# %% tags=["solution"]
import torch


def clipped_gradient(parameter, micro_batches, most):
    """The window's gradient, clipped to a norm of `most` [P]; micro_batches: (inputs [4, P], targets [4]) each."""
    for inputs, targets in micro_batches:
        loss = (inputs @ parameter - targets).square().mean() / len(micro_batches)
        loss.backward()
    torch.nn.utils.clip_grad_norm_([parameter], most)
    return parameter.grad


# %%
check("05.clipped_gradient", clipped_gradient)

# %% [markdown]
# ## Where this happened to others
#
# **In public reports.**
#
# - *Short windows.* `Lightning-AI/pytorch-lightning#19987` (2024, open when last seen) reports that the short window at
#   the end of an epoch is divided by the configured number of micro-batches. `modelscope/ms-swift#10084` (merged, 2026)
#   fixes the same bug: a window of two, divided by the configured four, gave half of the correct gradient. You measured
#   the same half above.
# - *Ragged windows that look even.* The loss of a language model is a mean over *tokens* (pieces of words), and texts
#   differ in length. So micro-batches with the same number of texts are still ragged, and the mean of their means is
#   not the mean over all tokens. `huggingface/transformers#34191` (merged, 2024) divides by the number of tokens in the
#   window.
#
# **What `covlab watch` found.** Lesson [11](11_watch_your_own_loop.ipynb) shows a tool that watches any PyTorch loop.
# In November 2026 we ran it on three widely used frameworks. Each had four micro-batches per window:
#
# - *Hugging Face Trainer* (transformers 5.24.0) with a sequence classification head. The Trainer does not divide, so
#   each step of SGD is <span data-quoted="covlab watch, November 2026">4.000</span>&nbsp;times too long. This is
#   `huggingface/transformers#47688` (2026, open when last seen). With `model.accepts_loss_kwargs = False` the factor is
#   <span data-quoted="covlab watch, November 2026">1.000</span>.
# - *Lightning* (2.6.6) and *Accelerate* (1.15.0) with epochs that end in a window of three. Both divide this window by
#   four, so its gradient has <span data-quoted="covlab watch, November 2026">0.75</span> of the correct length. To
#   avoid this, make the number of batches per epoch a multiple of four: use `drop_last=True` and a suitable number of
#   samples.
# - *Accelerate* with `optimizer.zero_grad()` at the top of `with accelerator.accumulate(model):`. The call clears the
#   gradient just before the last micro-batch of the window. Of 48 backward passes, 36 had no effect on any step.
#   Accelerate's own documentation once showed this order (`huggingface/accelerate#616`, reported in 2022, closed), and
#   people still report loops that have it (`modelscope/DiffSynth-Studio#1388`, 2026). Clear the gradient after the
#   step.
#
# ## In three lines
#
# - An accumulated step is the same as the step of the big batch if every scene has the same weight, and no scene's
#   error depends on other scenes.
# - To compare whole gradients, use ‖g₁ − g₂‖ / ‖g₂‖. A good loss curve under AdamW does not prove that the weights are
#   correct.
# - Ragged micro-batches change the direction of the gradient. A wrong divisor changes its length. AdamW hides the
#   length, but SGD and clipping show it.
#
# **Next.** Bugs path: [04 · Mixed precision](04_mixed_precision.ipynb). Whole course: [06 · The scaling
# bug](06_the_scaling_bug.ipynb), in which a code review blames a missing division for a run that does not learn. You
# now know what such a bug can do. Can it stop a run from learning?
