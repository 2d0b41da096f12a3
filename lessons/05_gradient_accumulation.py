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
# **Question.** When is an accumulated step the step of the big batch?
#
# A batch that does not fit into memory is cut into *micro-batches*: backward on each, one step for all. The
# micro-batches of one optimizer step are a **window**. Everybody "divides by the number of accumulation steps".
# You will find out what that division is worth, and afterwards be able to
#
# - say whether two gradients are the same, by one number;
# - weigh ragged micro-batches and a short last window;
# - tell where an optimizer hides a wrong weight, and where it shows.
#
# 45 minutes to read, half a minute to run. It needs no other lesson.

# %% tags=["parameters"]
profile = "cpu"
seed = 0

# %% [markdown]
# ## Predict
#
# Three windows, and one rule, the usual one: *the mean loss of each micro-batch is divided by 4*.
#
# | window | scenes in its micro-batches |
# |---|---|
# | even | 32, 32, 32, 32 |
# | ragged | 32, 32, 32, 4 |
# | short | 32, 32 |
#
# Hold each window's gradient against that of the same scenes in one batch. Commit yourself before you read on.

# %%
# about 5 s, most of it to load PyTorch
from covlab.course import check, choose_device, choose_scenario, measure, outcome, predict

beside_the_big_batch = [
    "the big batch's direction and length",
    "the big batch's direction, another length",
    "another direction",
]
predict("05.ragged", "The gradient of the ragged window, divided by 4, has …", beside_the_big_batch)

# %%
predict("05.short", "The gradient of the short window, divided by 4, has …", beside_the_big_batch)

# %%
predict(
    "05.adamw",
    "Train with the division left out, under AdamW and without clipping. The steps are …",
    ["about as long as the right ones", "four times as long"],
)

# %% [markdown]
# ## The experiment
#
# A small network estimates covariances; its loss is the mean of the scenes' errors. All that accumulation does
# is in these lines: `backward` *adds* to what is there, and each micro-batch has a share.

# %%
import torch  # after covlab, which tells it how threads should wait

from covlab import plots
from covlab.course.experiments.micro_batches import cut, with_batch_norm
from covlab.faults.small_run import finish, small_run
from covlab.networks.model import BackProjectionNet
from covlab.plots.window_gradients import gradient_errors, ratios_by_window
from covlab.scenes.simulator import Simulator, scene_generator

device = choose_device(profile)
scenario = choose_scenario(device)
scenes = Simulator(scenario, device).draw(128, scene_generator(seed, "windows", device=device))
torch.manual_seed(seed)
model = BackProjectionNet(scenario, beams=32, width=64, rank=4).to(device)


def window_gradient(model, micro_batches, shares):
    """What one window leaves in the gradient, all parameters in one vector [P]."""
    model.zero_grad()
    for batch, share in zip(micro_batches, shares):
        loss = model(batch.y, batch.H, batch.codes, batch.snr_db).nmse(batch).mean()
        (share * loss).backward()
    return torch.cat([p.grad.flatten() for p in model.parameters() if p.grad is not None])


# %% [markdown]
# Four rules for the shares, from the numbers of scenes nᵢ in a window of m micro-batches. And one number to
# judge them by: ‖g₁ − g₂‖ / ‖g₂‖ over the *whole* vector, where g₂ is the gradient of one big batch.

# %%
windows = {"even": [32, 32, 32, 32], "ragged": [32, 32, 32, 4], "short": [32, 32]}
rules = {
    "no division": lambda n: [1.0] * len(n),
    "divide by 4": lambda n: [1 / 4] * len(n),
    "divide by m": lambda n: [1 / len(n)] * len(n),
    "divide by scenes: nᵢ / Σn": lambda n: [count / sum(n) for count in n],
}


def error(g, reference):
    return ((g - reference).norm() / reference.norm()).item()


def compare(model):
    """{rule: {window: (gradient, gradient of the big batch)}}"""
    found = {rule: {} for rule in rules}
    for name, n in windows.items():
        big = window_gradient(model, cut(scenes, [sum(n)]), [1.0])
        for rule, shares in rules.items():
            found[rule][name] = window_gradient(model, cut(scenes, n), shares(n)), big
    return found


def errors(gradients):
    return {rule: {name: error(*pair) for name, pair in of.items()} for rule, of in gradients.items()}


gradients = compare(model)
measured = errors(gradients)

# %% tags=["hide-input"]
plots.show(
    gradient_errors(measured, equal=1e-5),
    "Four rules, three windows each, on a logarithmic axis of the gradient's error. Without a division all three "
    "windows are wrong, by one to four times the gradient. Divided by 4, the even window is equal but for rounding, "
    "near 1e-7; the ragged and the short one are off by about a half. Divided by the number of micro-batches, only the "
    "ragged one is off. Divided by scenes, all three are equal.",
)

# %% [markdown]
# Only one rule is right for every window. But *how* the others are wrong differs. A vector can be off in two
# ways: by its length, and by its direction.


# %%
def length(g, reference):
    return (g.norm() / reference.norm()).item()


def angle(g, reference):
    return torch.rad2deg(torch.acos((g @ reference / g.norm() / reference.norm()).clamp(-1, 1))).item()


plots.table(
    ["rule", *(f"{name}: length, angle" for name in windows)],
    [(rule, *(f"{length(*pair):.2f}×, {angle(*pair):.0f}°" for pair in of.values())) for rule, of in gradients.items()],
    "A window's gradient over that of the big batch.",
)
usual = gradients["divide by 4"]


# %%
def in_words(g, reference):
    if error(g, reference) < 1e-5:
        return beside_the_big_batch[0]
    return beside_the_big_batch[1 if angle(g, reference) < 1 else 2]


because = "A mean of means is the mean only where all have the same number of scenes."
outcome("05.ragged", in_words(*usual["ragged"]), because=because)
outcome("05.short", in_words(*usual["short"]), because="Two quarters are a half.")

# %% tags=["hide-input"]
measure("05.ragged_angle", angle(*usual["ragged"]))
measure("05.short_length", length(*usual["short"]))
if max(measured["divide by scenes: nᵢ / Σn"].values()) > 1e-5:
    raise RuntimeError("the right rule no longer gives the gradient of the big batch")

# %% [markdown]
# **Why.** Call $\ell_i$ the mean loss of micro-batch $i$, of $n_i$ scenes. The mean over all scenes, and what "divide
# by 4" makes of it:
#
# $$\frac{n_1\ell_1 + \dots + n_m\ell_m}{n_1 + \dots + n_m} \qquad\text{and}\qquad \frac{\ell_1 + \dots + \ell_m}{4}$$
#
# - **Even**: the two are the same formula.
# - **Short**: two micro-batches, each given a quarter. The direction is right, the length is
#   <span data-claim="05.short_length">0.50</span> of what it should be.
# - **Ragged**: a scene in the micro-batch of 4 counts eight times as much as one in a micro-batch of 32. So
#   the *direction* turns, here by some <span data-claim="05.ragged_angle">33</span>°, and no learning rate can turn it
#   back.
#
# The right rule needs to know the window's scenes *before* its first backward. That is why covlab's trainer pulls a
# whole window of micro-batches first, and then each loss is
# `torch.dot(losses.total, micro_batch.weight) / window_weight`. (Or sum the scenes' losses, and divide the gradient
# just before the step.)

# %% [markdown]
# ## Find and mend, 1: the weights of a window
#
# `counts` holds the numbers of scenes of a window's micro-batches. Each micro-batch's *mean* loss will be
# multiplied by its weight.

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
# ## Why the whole vector?
#
# It is tempting to ask whether every *entry* agrees. Take the even window, which is right, and do that:

# %%
g, reference = gradients["divide by scenes: nᵢ / Σn"]["even"]
entries = ((g - reference).abs() / reference.abs())[reference != 0]
plots.table(
    ["even window, right rule", "error"],
    [
        ("whole vector", f"{error(g, reference):.0e}"),
        ("median entry", f"{entries.median():.0e}"),
        ("worst entry", f"{entries.max():.0e}"),
    ],
)
if entries.max() < 100 * error(g, reference):
    raise RuntimeError("the explanation below no longer follows from the measurement above")

# %% [markdown]
# Single precision adds in another order and rounds differently. An entry that nearly cancels to zero keeps the
# rounding and loses the value, so its own relative error says nothing. The norm over all entries does not care. In
# single precision, hold ‖g₁ − g₂‖ / ‖g₂‖ against 1e-5.
#
# ## What no division can mend
#
# Put batch normalization where our network normalizes over features. Each scene is then scaled by the scenes it
# *happens to share a micro-batch with*:

# %%
torch.manual_seed(seed)
batch_normed = with_batch_norm(model)
by_mode = {
    "training mode": errors(compare(batch_normed.train()))["divide by scenes: nᵢ / Σn"],
    "fixed statistics": errors(compare(batch_normed.eval()))["divide by scenes: nᵢ / Σn"],
}
plots.table(
    ["right shares, with batch norm", *windows],
    [(mode, *(f"{value:.0e}" for value in of.values())) for mode, of in by_mode.items()],
    "Error of the window's gradient.",
)
measure("05.batch_norm_error", by_mode["training mode"]["even"])

# %% [markdown]
# In training mode even the even window is off by about <span data-claim="05.batch_norm_error">0.2</span> of its
# gradient. Nothing is wrong with the shares: cut differently, it is another function. With fixed statistics (evaluation
# mode) they are equal again. So there are **two conditions**: the loss is a mean over scenes, each of which is computed
# without the others; and every scene has the same weight.
#
# ## What the optimizer makes of it
#
# Now let the wrong gradients take steps. An epoch of ten micro-batches, four to a window: every third window is short.
# Two bugs of covlab's museum: *no division*, and *the short last window divided by 4*. Each is held against the right
# run from the same seed.

# %%
optimizers = {
    "SGD": dict(optimizer="sgd", momentum=0.0, learning_rate=0.01),
    "AdamW": dict(optimizer="adamw", learning_rate=1e-3),
}
faults = {"no division": "missing_division", "short window by 4": "short_window_by_full_count"}


def run(*fault, **recipe):
    setting = dict(seed=seed, scenes=160, micro_batch=16, windows=12, warmup=0, weight_decay=0.0)
    return finish(small_run(*fault, **setting, **recipe))


runs = {}
for name, recipe in optimizers.items():
    faulty = {label: run(fault, **recipe, clip=None) for label, fault in faults.items()}
    runs[name] = (run(**recipe, clip=None), faulty)

# %% tags=["hide-input"]
plots.show(
    ratios_by_window(runs, {"gradient_norm": "gradient", "update_norm": "step taken"}),
    "Four panels: gradient norm and update norm over twelve windows, each of two bugged runs over the right run. The "
    "gradients are a saw in either row: 4, 4, 2 times without division, and 1, 1, one half with the short window "
    "divided by 4. Under SGD the steps taken are the same saw. Under AdamW the steps of both bugged runs are as long "
    "as the right ones in every window.",
)


# %%
def step_ratio(name, label, number):
    right, faulty = runs[name]
    return faulty[label].ledger.rows[number]["update_norm"] / right.ledger.rows[number]["update_norm"]


longer = step_ratio("AdamW", "no division", 0)
happened = "four times as long" if longer > 2 else "about as long as the right ones"
outcome("05.adamw", happened, because="AdamW divides the gradient by its own running size.")

# %% tags=["hide-input"]
measure("05.adamw_first_step", longer)
measure("05.adamw_short_step", step_ratio("AdamW", "short window by 4", 2))
measure("05.sgd_first_step", step_ratio("SGD", "no division", 0))
measure("05.sgd_short_step", step_ratio("SGD", "short window by 4", 2))

# %% [markdown]
# - **SGD** hands the error on: the first step is <span data-claim="05.sgd_first_step">4.0</span>&nbsp;times as long
#   without the division, and
#   <span data-claim="05.sgd_short_step">0.5</span> of the right length in a short window divided by 4.
# - **AdamW** hides both. It divides the running mean of the gradient by its running size, so a constant factor cancels
#   (first step:
#   <span data-claim="05.adamw_first_step">1.00</span>). The factor of the short window is *not* constant, and hides all
#   the same (its step:
#   <span data-claim="05.adamw_short_step">1.00</span>): the running mean holds nine parts of old gradient to one of
#   new.
# - In AdamW's eyes the two bugs are even one and the same: 4, 4, 2 is four times 1, 1, ½.
#
# A run that looks healthy under AdamW is no evidence of a right window. **The gradient's saw is**: look at the left
# column.
#
# Try it: the division left out, under either optimizer, with as many micro-batches and as much clipping as you like.

# %%
from covlab.widgets import ScalingBugExplorer

explorer = ScalingBugExplorer(fault="missing_division", seed=seed)
explorer.show()

# %% [markdown]
# Four settings worth a try, and their pictures. Which of the curves part, and under which optimizer?

# %% tags=["hide-input"]
explorer.still()

# %% [markdown]
# ## Where clipping shows it
#
# A threshold is a number of its own, and knows nothing of your factor. With the threshold at the right run's median
# gradient norm:

# %%
norms = sorted(runs["AdamW"][0].ledger.columns()["gradient_norm"])
threshold = norms[len(norms) // 2]


def clipped_windows(*fault):
    trainer = run(*fault, **optimizers["AdamW"], clip=threshold)
    return sum(row["gradient_norm"] > threshold for row in trainer.ledger.rows)


clipped = {"right": clipped_windows(), **{label: clipped_windows(fault) for label, fault in faults.items()}}
plots.table(["AdamW, clipped", "windows clipped, of 12"], list(clipped.items()))
measure("05.clipped_right", clipped["right"])
measure("05.clipped_without_division", clipped["no division"])

# %% [markdown]
# The right run is clipped in about <span data-claim="05.clipped_right">5</span> of 12 windows, the one without division
# in about
# <span data-claim="05.clipped_without_division">12</span>. Clipping is a second reading of the same fault, and it costs
# nothing: log the norm
# *before* clipping, and how often it was clipped.
#
# ## Find and mend, 2: the last window
#
# Somebody's epoch for a linear model: plain SGD with a rate of `0.1`, all micro-batches of the same size. It trains. It
# is not what its docstring says.


# %% tags=["exercise"]
def trained_epoch(start, micro_batches, accumulation):
    """Parameter [P] after an epoch of one step a window; micro_batches: (inputs [4, P], targets [4]) each."""
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
    """Parameter [P] after an epoch of one step a window; micro_batches: (inputs [4, P], targets [4]) each."""
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
# ## Find and mend, 3: where to clip
#
# The micro-batches are even and the division is right. Still the gradient points elsewhere.

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
# - **The short window.** `Lightning-AI/pytorch-lightning#19987` (2024) finds the end of an epoch divided by the
#   configured count; as last seen it was open. `modelscope/ms-swift#10084`, merged in 2026, mends the same: "with a
#   configured window of four and an actual window of two, this produces half the full-batch reference gradient". You
#   have just measured that half.
# - **Ragged micro-batches, in disguise.** A language model's loss is a mean over *tokens*, and texts differ in length.
#   So equal numbers of texts are ragged micro-batches, and a mean of their means is not the mean over tokens.
#   `huggingface/transformers#34191` (merged, October 2024) divides by the window's tokens.
#
# ## In three lines
#
# - An accumulated step is the step of the big batch if every scene counts the same and is computed without the others.
# - Compare whole gradients, ‖g₁ − g₂‖ / ‖g₂‖; a loss curve under AdamW proves nothing.
# - Raggedness turns the gradient, a wrong divisor stretches it; SGD and clipping show what AdamW hides.
#
# **Onward.** [06 · The scaling bug](06_the_scaling_bug.ipynb): a review blames a frozen run on a missing division. You
# now know what such a bug can do. Could it?
