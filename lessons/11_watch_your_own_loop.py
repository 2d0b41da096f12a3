# ---
# jupyter:
#   kernelspec:
#     display_name: Python 3
#     language: python
#     name: python3
# ---

# %% [markdown]
# # 11 · Watch your own loop
#
# **Question.** A run does not learn and raises no exception. What can the loop itself tell you?
#
# A training step has laws that hold whatever the model is: a window's losses count as one, a step runs if and only if
# its gradients are finite, a step moves something. `covlab.watch` checks eighteen of them in *any* PyTorch loop,
# without a change to it, and names the line. You will afterwards be able to
#
# - watch a loop of your own, in a notebook and from a shell;
# - read a finding: its number, its line, and how sure it is;
# - say what no watch can see.
#
# 40 minutes to read, half a minute to run. It needs no other lesson; [05](05_gradient_accumulation.ipynb) and
# [07](07_overflow_and_sanitization.ipynb) help.

# %% tags=["parameters"]
profile = "cpu"
seed = 0

# %% [markdown]
# ## Predict
#
# The loop below forgets to divide the loss by the number of micro-batches in a window. It runs under AdamW, without
# clipping.

# %%
# about 5 s, most of it to load PyTorch
from covlab.course import check, choose_device, measure, outcome, predict

predict(
    "11.visible",
    "Where does this bug show most plainly?",
    ["in the loss after training", "in how far the parameters moved", "in the weights of the window's losses"],
)

# %% [markdown]
# ## The experiment
#
# A small classifier, random data, four micro-batches a window: a loop as textbooks have it. Replace it by your own, if
# you like.

# %%
import warnings

import torch  # after covlab, which tells it how threads should wait
from torch import nn
from torch.nn.utils import parameters_to_vector

from covlab import plots
from covlab.plots.watch_results import window_shares
from covlab.watch import watch

device = choose_device(profile)


def make():
    torch.manual_seed(seed)
    model = nn.Sequential(nn.Linear(8, 32), nn.Tanh(), nn.Linear(32, 3)).to(device)
    return model, torch.optim.AdamW(model.parameters(), lr=1e-2)


def some_data(micro_batches=22):
    generator = torch.Generator().manual_seed(seed)
    inputs = torch.randn(micro_batches, 16, 8, generator=generator)
    return [(x.to(device), x[:, :3].argmax(dim=1).to(device)) for x in inputs]


def train(model, optimizer, share):
    """Two epochs; share(number, in_window) is what a micro-batch's loss is divided by."""
    data = some_data()
    for epoch in range(2):
        for number, (x, y) in enumerate(data):
            in_window = min(4, len(data) - number // 4 * 4)
            loss = nn.functional.cross_entropy(model(x), y)
            (loss / share(number + len(data) * epoch, in_window)).backward()
            if (number + 1) % 4 == 0 or number + 1 == len(data):
                optimizer.step()
                optimizer.zero_grad()
    return loss.item()


# %% [markdown]
# Two lines watch it: `with watch(model, optimizer) as w:` around the loop, and `w.report()` after it.

# %%
model, optimizer = make()
with watch(model, optimizer) as w:
    train(model, optimizer, share=lambda number, in_window: 1)
w.report()

# %% [markdown]
# Read it from the left. *Fault* means that no innocent reading is left; a *warning* has one, a *note* says only what
# was seen. Then the arithmetic, the line, how often, and a way out. Below stands what could **not** be checked, and
# why: no scaler, no schedule, no evaluation in this loop. A watch that keeps silent about what it skipped would be one
# more bug without an exception.
#
# ## The picture
#
# While the loop runs, the watch reads from every backward how much a loss counts in the value that `backward()` was
# called on, with the loss scale taken out. Four ways to divide:

# %%
rules = {
    "no division": lambda number, in_window: 1,
    "first batch only": lambda number, in_window: 4 if number == 0 else 1,
    "by 4, always": lambda number, in_window: 4,
    "by the window": lambda number, in_window: in_window,
}
watched, losses, moved = {}, {}, {}
for title, share in rules.items():
    model, optimizer = make()
    start = parameters_to_vector(model.parameters()).detach()
    with watch(model, optimizer) as w:
        losses[title] = train(model, optimizer, share)
    watched[title] = w
    moved[title] = (parameters_to_vector(model.parameters()).detach() - start).norm().item()

# %% tags=["hide-input"]
plots.show(
    window_shares({title: w.rows for title, w in watched.items()}),
    "Four bar charts, one a rule of division, each with six windows; a bar is stacked of a window's micro-batches, a "
    "dashed line stands at 1. Without division the bars reach 4, the last one, of two micro-batches, 2. Divided in the "
    "first batch only, the first bar is a little above 3, the others as before. Divided by 4 always, all bars end at 1 "
    "but the last, at one half. Divided by the window's own micro-batches, every bar ends at 1.",
)

# %%
found = {title: w.report().of("W01") for title, w in watched.items()}
plots.table(
    ["rule", "loss at the end", "parameters moved by", "W01"],
    [
        (title, f"{losses[title]:.2f}", f"{moved[title]:.2f}", finding.says if finding else "nothing found")
        for title, finding in found.items()
    ],
)
apart, farther = max(losses.values()) - min(losses.values()), max(moved.values()) / min(moved.values())
outcome(
    "11.visible",
    "in the loss after training"
    if apart > 0.3
    else "in how far the parameters moved"
    if farther > 1.3
    else "in the weights of the window's losses",
    because=f"The four losses lie within {apart:.2f} of each other, and the parameters moved {farther:.2f} times as "
    "far at the most as at the "
    "least: AdamW divides by the gradient's size, and takes nearly the same steps.",
)

# %%
measure("11.no_division", found["no division"].number)
measure("11.short_window", found["by 4, always"].number)
if found["by the window"] is not None or "4" not in found["first batch only"].says:
    raise RuntimeError("the explanation below no longer follows from the findings above")

# %% [markdown]
# **Why so sure?** The same line ran backward several times in a window; its losses are means; and their weights sum to
# <span data-claim="11.no_division">4.00</span>, the number of micro-batches. A *sum* over tasks would look alike, so
# the watch also looks at the inputs: here they differ from one micro-batch to the next. Where they do not, or where the
# loss is a sum, it says what it saw as a note. The short window sums to <span data-claim="11.short_window">0.50</span>,
# two quarters.
#
# ## Find and mend, 1: an epoch with two bugs
#
# Somebody's epoch. Here is what it needs to be watched, with data of our own:


# %%
def watched_epoch(epoch):
    """What the watch says of an epoch over 24 micro-batches, in windows of 4."""
    torch.manual_seed(seed)
    model = nn.Linear(3, 1).to(device)
    optimizer = torch.optim.SGD(model.parameters(), lr=0.01)
    schedule = torch.optim.lr_scheduler.ExponentialLR(optimizer, 0.9)
    micro_batches = [(torch.randn(4, 3, device=device), torch.randn(4, 1, device=device)) for _ in range(24)]
    with watch(model, optimizer) as w, warnings.catch_warnings():
        warnings.simplefilter("ignore")  # PyTorch minds only that a schedule advances before the first step
        epoch(model, optimizer, schedule, micro_batches, 4)
    return w.report()


# %% [markdown]
# Run the next cell, and `watched_epoch(mended_epoch)` in a cell of your own. Mend what the report names, and watch
# again.

# %% tags=["exercise"]
import torch


def mended_epoch(model, optimizer, schedule, micro_batches, accumulation):
    """One epoch: a step a window, an advance of the schedule a step; micro_batches: (inputs [4, 3], targets [4, 1])
    each.
    """
    for number, (inputs, targets) in enumerate(micro_batches, 1):
        loss = torch.nn.functional.mse_loss(model(inputs), targets)
        loss.backward()
        if number % accumulation == 0:
            optimizer.step()
            optimizer.zero_grad()
        schedule.step()


# %% tags=["solution"]
import torch


def mended_epoch(model, optimizer, schedule, micro_batches, accumulation):
    """One epoch: a step a window, an advance of the schedule a step; micro_batches: (inputs [4, 3], targets [4, 1])
    each.
    """
    for number, (inputs, targets) in enumerate(micro_batches, 1):
        loss = torch.nn.functional.mse_loss(model(inputs), targets) / accumulation
        loss.backward()
        if number % accumulation == 0:
            optimizer.step()
            schedule.step()
            optimizer.zero_grad()


# %%
check("11.mended_epoch", mended_epoch)

# %% [markdown]
# This is the report of the epoch as it was given:


# %%
def bugged_epoch(model, optimizer, schedule, micro_batches, accumulation):
    for number, (inputs, targets) in enumerate(micro_batches, 1):
        loss = nn.functional.mse_loss(model(inputs), targets)
        loss.backward()
        if number % accumulation == 0:
            optimizer.step()
            optimizer.zero_grad()
        schedule.step()


report = watched_epoch(bugged_epoch)
report

# %%
if {finding.code for finding in report.findings if finding.verdict == "fault"} != {"W01", "W05"}:
    raise RuntimeError("the watch no longer finds the exercise's two bugs")

# %% [markdown]
# ## Find and mend, 2: a step under a loss scale
#
# In half precision the loss is multiplied by a scale, so that small gradients survive. This step clips them to a norm
# of `most`. What does it clip?

# %% tags=["exercise"]
import torch


def mended_step(model, optimizer, scaler, loss, most):
    """One step with the gradient of `loss`, clipped to a norm of `most`."""
    scaler.scale(loss).backward()
    torch.nn.utils.clip_grad_norm_(model.parameters(), most)
    scaler.step(optimizer)
    scaler.update()


# %% tags=["solution"]
import torch


def mended_step(model, optimizer, scaler, loss, most):
    """One step with the gradient of `loss`, clipped to a norm of `most`."""
    scaler.scale(loss).backward()
    scaler.unscale_(optimizer)
    torch.nn.utils.clip_grad_norm_(model.parameters(), most)
    scaler.step(optimizer)
    scaler.update()


# %%
check("11.mended_step", mended_step)

# %% [markdown]
# ## What no watch can see
#
# A watch knows what was *done*. That a formula is not the one you meant, that an epoch's schedule was to be a step's:
# none of this breaks a law of the step. Four bugs of covlab's museum are `clip_before_unscale`, `last_batch_only`,
# `validation_in_training` and
# `weights_reset`. One of them leaves no trace in any step. Which? Look them up, here or with `covlab faults show NAME`
# in a terminal:

# %%
from covlab.widgets import FaultMuseumExplorer

FaultMuseumExplorer("clip_before_unscale").show()

# %% tags=["exercise"]
invisible = "clip_before_unscale"

# %% tags=["solution"]
invisible = "weights_reset"

# %%
check("11.invisible", invisible)

# %% [markdown]
# ## Your own script
#
# From a shell, nothing in the script changes:
#
# ```console
# $ python -m covlab.watch --steps 50 train.py --its-arguments
# ```
#
# The exit code is 1 where a fault was found, so this is a smoke test for CI (`--junit FILE`, `--fail-on warning`). A
# watched run computes the very same parameters, to the bit. Needed is PyTorch, and nothing else of covlab.
#
# ## Where this happened to others
#
# - **Clipped before unscaling.** `milesial/Pytorch-UNet#468`, mended in `#470`: the gradients were clipped while the
#   loss scale was still in them. The watch calls it W06.
# - **The schedule of micro-batches.** `Lightning-AI/pytorch-lightning#1476` and `huggingface/accelerate#963`: with
#   accumulation, the schedule advanced with every batch. The watch calls it W05.
#
# ## In three lines
#
# - A step has laws that hold for every model; a bug without an exception usually breaks one of them.
# - A finding needs a number, a line and an honest verdict; what was not checked is part of the report.
# - What the numbers were meant to be, no watch can know: that is what tests, claims and you are for.
#
# **Onward.** Take a loop of your own and put it between `with watch(…)` and `w.report()`.
