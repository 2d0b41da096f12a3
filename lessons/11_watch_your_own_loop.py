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
# **Question.** A run does not learn, and there is no exception. What can you learn from its training loop?
#
# **Bugs path** 6 of 6 · **Whole course** 12 of 12 · 40 minutes · 05 and 07 help
#
# Some rules hold in every correct training step, for every model. For example, a step should happen only if its
# gradients are finite, and it should change the parameters. Such a rule is called an **invariant**. `covlab watch` is a
# tool that observes a training loop. It checks thirty-three invariants in *any* PyTorch loop, without changing the loop. If
# an invariant is broken, it shows you the line. Afterwards you can
#
# - watch a script of your own, from a terminal or in a notebook;
# - read a finding: its number, its line, and how certain it is;
# - say what such a tool (a *watch*) cannot see.
#
# It takes half a minute to run all cells.

# %% tags=["parameters"]
profile = "cpu"
seed = 0

# %% [markdown]
# ## A script that runs
#
# Here is a simple training script. It trains a small classifier on random data, with four small batches
# (*micro-batches*) per optimizer step. The micro-batches of one step are called a *window*. The script prints a loss
# that falls. Read it before you go on. Do you see anything wrong?

# %%
SCRIPT = """
import torch
from torch import nn

torch.manual_seed(0)
model = nn.Sequential(nn.Linear(8, 32), nn.Tanh(), nn.Linear(32, 3))
optimizer = torch.optim.AdamW(model.parameters(), lr=1e-2)
schedule = torch.optim.lr_scheduler.CosineAnnealingLR(optimizer, T_max=25)
inputs = torch.randn(100, 16, 8)
classes = inputs[:, :, :3].argmax(dim=2)

for number, (x, y) in enumerate(zip(inputs, classes), 1):
    loss = nn.functional.cross_entropy(model(x), y)
    loss.backward()
    if number % 4 == 0:
        optimizer.step()
        optimizer.zero_grad()
    schedule.step()
    if number % 20 == 0:
        print(f"loss {loss.item():.3f}")
"""

# %% [markdown]
# In a terminal you would type `covlab watch train.py`. (`python -m covlab.watch train.py` does the same and needs only
# PyTorch.) The script runs unchanged, and ends with exactly the same parameters, bit for bit. The next cell does this
# for you:

# %%
# about 5 s, most of it to load PyTorch
from covlab.course.experiments import watched_loops as lab

status = lab.watch_script(SCRIPT)

# %% tags=["hide-input"]
# Stops if the watch does not find both faults
if status != 1:
    raise RuntimeError("the watch no longer finds the faults of the script")

# %% [markdown]
# First you see the output of the script. (PyTorch warns about the order of two calls. Many people ignore this warning.)
# Then comes the report. Read each finding from left to right:
#
# - **FAULT** means that there is no harmless explanation. **WARNING** means that a harmless explanation is possible.
#   **NOTE** only says what the watch saw.
# - **W01** is the number of the invariant, followed by the rule that was broken.
# - Next come the measured numbers, and what they should be.
# - **at train.py:14** is the line. After it you see how often and when it happened.
# - After the arrow **→** you read what to do.
#
# At the end, the report lists what it could **not** check, and why. For example, this script has no loss scaler (a tool
# for half precision, lesson 04). If a watch did not tell you what it skipped, you would think that everything was
# checked.
#
# The last line is the exit status. It is 1 if a fault was found, so you can use this command in automatic tests (CI):
# `covlab watch --steps 50 train.py`.
#
# ## Find and fix: the script's epoch
#
# Here is the same training loop as a function, for a linear model. It trains one epoch, one pass over the data. Fix the
# faults in the report. In a notebook, two lines watch a loop: `with watch(model, optimizer) as w:` around it, and
# `w.report()` after it. So you can watch your own version with `watched(accumulating_epoch)`.

# %%
from torch import nn

from covlab.course import check, choose_device, outcome, predict
from covlab.watch import watch

device = choose_device(profile)


def watched(epoch):
    model, optimizer, schedule, micro_batches = lab.linear_model(seed, device)
    with watch(model, optimizer) as w:
        epoch(model, optimizer, schedule, micro_batches, 4)
    return w.report()


# %% tags=["exercise"]
import torch


def accumulating_epoch(model, optimizer, schedule, micro_batches, accumulation):
    """Train one epoch, in windows of `accumulation` micro-batches (inputs [4, 3], targets [4, 1])."""
    for number, (inputs, targets) in enumerate(micro_batches, 1):
        loss = torch.nn.functional.mse_loss(model(inputs), targets)
        loss.backward()
        if number % accumulation == 0:
            optimizer.step()
            optimizer.zero_grad()
        schedule.step()


# %% tags=["solution"]
import torch


def accumulating_epoch(model, optimizer, schedule, micro_batches, accumulation):
    """Train one epoch, in windows of `accumulation` micro-batches (inputs [4, 3], targets [4, 1])."""
    for number, (inputs, targets) in enumerate(micro_batches, 1):
        loss = torch.nn.functional.mse_loss(model(inputs), targets) / accumulation
        loss.backward()
        if number % accumulation == 0:
            optimizer.step()
            schedule.step()
            optimizer.zero_grad()


# %%
check("11.accumulating_epoch", accumulating_epoch)

# %% [markdown]
# Now make both changes in the script, and watch it again. Is it correct now?

# %%
# about 5 s
FIXED = SCRIPT.replace("loss.backward()", "(loss / 4).backward()")
FIXED = FIXED.replace(
    "        optimizer.zero_grad()\n    schedule.step()", "        optimizer.zero_grad()\n        schedule.step()"
)
status = lab.watch_script(FIXED)

# %% tags=["hide-input"]
# Stops if the watch still finds a fault
if status != 0:
    raise RuntimeError("the watch finds a fault in the fixed script")

# %% [markdown]
# ## Why not look at the loss?
#
# The loss of the buggy script falls. So where can you see such a bug? Below, the same classifier trains for two epochs,
# with four different rules for dividing the loss. The last window of each epoch has only two micro-batches. The
# optimizer is AdamW, and gradients are not clipped (shortened).

# %%
predict(
    "11.visible",
    "Where can you tell the four rules apart most clearly?",
    ["in the loss after training", "in how far the parameters moved", "in the weights of the window's losses"],
)

# %% [markdown]
# Train with each rule, and watch:

# %%
from torch.nn.utils import parameters_to_vector

rules = {  # the divisor of a micro-batch's loss; m: number of micro-batches in its window
    "no division": lambda m, is_first: 1,
    "first batch only": lambda m, is_first: m if is_first else 1,
    "by 4, always": lambda m, is_first: 4,
    "by the window": lambda m, is_first: m,
}


def train(model, optimizer, divisor):
    windows = lab.windows(seed, device)
    for epoch in range(2):
        for window in windows:
            for x, y in window:
                loss = nn.functional.cross_entropy(model(x), y)
                is_first = epoch == 0 and window is windows[0] and x is window[0][0]
                (loss / divisor(len(window), is_first)).backward()
            optimizer.step()
            optimizer.zero_grad()
    return loss.item()


watches, losses, moved = {}, {}, {}
for title, divisor in rules.items():
    model, optimizer = lab.classifier(seed, device)
    start = parameters_to_vector(model.parameters()).detach()
    with watch(model, optimizer) as w:
        losses[title] = train(model, optimizer, divisor)
    watches[title] = w
    moved[title] = (parameters_to_vector(model.parameters()) - start).norm().item()

# %% tags=["hide-input"]
# The table of the four rules
from covlab import plots

found = {title: w.report().of("W01") for title, w in watches.items()}
plots.table(
    ["rule", "loss at the end", "parameters moved by", "W01"],
    [
        (title, f"{losses[title]:.2f}", f"{moved[title]:.2f}", finding.says if finding else "nothing found")
        for title, finding in found.items()
    ],
)

# %% tags=["hide-input"]
# Compares your prediction with the runs
apart, farther = max(losses.values()) - min(losses.values()), max(moved.values()) / min(moved.values())
outcome(
    "11.visible",
    "in the loss after training"
    if apart > 0.3
    else "in how far the parameters moved"
    if farther > 1.3
    else "in the weights of the window's losses",
    because=f"The four losses lie within {apart:.2f} of each other. The largest distance is {farther:.2f} times the "
    "smallest. AdamW divides each gradient by its recent size, so all four runs take nearly the same steps.",
)

# %% [markdown]
# The watch sees something that the loss does not show. At each backward pass, it finds the *weight* of each loss: its
# factor in the value that is back-propagated. If there is a loss scale, the watch divides it out. In a correct loop,
# the weights of a window sum to 1:

# %% tags=["hide-input"]
# Draws the weights of every window's micro-batches
from covlab.course import measure
from covlab.plots.watch_results import window_shares

plots.show(
    window_shares({title: w.rows for title, w in watches.items()}),
    "Four bar charts, one per rule, each with twelve windows. Each bar is a stack of its window's micro-batches, and a "
    "dashed line marks 1. Without division the bars reach 4, those of the two short windows 2. Divided in the first "
    "batch only, the first bar is a little above 3 and the others are as before. Divided by 4 always, all bars end at 1 "
    "except the short windows, at one half. Divided by the window's own micro-batches, every bar ends at 1.",
)
measure("11.no_division", found["no division"].number)
measure("11.short_window", found["by 4, always"].number)
if found["by the window"] is not None or "4" not in found["first batch only"].says:
    raise RuntimeError("the text no longer follows from the findings above")

# %% [markdown]
# **Why is the watch so certain?** There are three reasons: the same line ran `backward` several times per window, each
# loss is a mean, and the weights sum to <span data-claim="11.no_division">4.00</span>, exactly the number of
# micro-batches. A correct loop that adds the losses of several *tasks* could look the same, so the watch also compares
# the inputs: here they differ between micro-batches. If they were the same, or if the loss was a sum, you would get a
# note instead of a fault. In the short window, divided by 4, the weights sum to
# <span data-claim="11.short_window">0.50</span>: two quarters.
#
# ## Find and fix: a step under a loss scale
#
# In half precision the loss is multiplied by a scale, so that small gradients survive (lesson 04). A colleague's
# function takes one step, and clips the gradient: it shortens each gradient whose norm is above `most`. But runs with
# this function learn too slowly.

# %% tags=["exercise"]
import torch


def scaled_step(model, optimizer, scaler, loss, most):
    """Take one step along the gradient of `loss`, clipped to a norm of `most`."""
    scaler.scale(loss).backward()
    torch.nn.utils.clip_grad_norm_(model.parameters(), most)
    scaler.step(optimizer)
    scaler.update()


# %% tags=["solution"]
import torch


def scaled_step(model, optimizer, scaler, loss, most):
    """Take one step along the gradient of `loss`, clipped to a norm of `most`."""
    scaler.scale(loss).backward()
    scaler.unscale_(optimizer)
    torch.nn.utils.clip_grad_norm_(model.parameters(), most)
    scaler.step(optimizer)
    scaler.update()


# %%
check("11.scaled_step", scaled_step)

# %% [markdown]
# ## Your loop
#
# Now watch a loop of your own. Paste it into the cell below, between the first and the last line, and remove the `#`
# signs. Or watch your script in a terminal: `covlab watch your_script.py`.

# %%
# with watch(model, optimizer) as w:
#     ...
# w.report()

# %% [markdown]
# ## A true story: four times too long
#
# Hugging Face's Trainer contains the loop, so there is no line that you could forget. In version 5.24.0 of
# transformers, it makes each step of a sequence classifier four times too long if it accumulates four micro-batches
# (`huggingface/transformers#47688`). The Trainer expects that the model divides the loss by the number of items in the
# window. This kind of model doesn't. Under AdamW, the bug is hard to notice.
#
# `covlab watch` finds this bug with invariant W01. Its advice is one line: `model.accepts_loss_kwargs = False`. In
# November 2026 we measured the first step with plain SGD, and compared its length with that of a step on the whole
# window as one batch. It was <span data-quoted="measured with transformers 5.24.0">4.000</span> times as long without
# that line, and <span data-quoted="measured with transformers 5.24.0">1.000</span> with it. If you have transformers
# installed, the next cell measures it again.

# %%
# about 10 s if transformers is installed
lengths = lab.trainer_step_lengths()
print(lengths or "transformers is not installed here")

# %% [markdown]
# ## What can no watch see?
#
# A watch sees what your loop *does*. It cannot know what you wanted.
#
# Here are four bugs that covlab can switch on. A watch cannot see one of them, because it leaves no trace in any step.
# Which one? Look them up here, or with `covlab faults show NAME` in a terminal:

# %%
from covlab.widgets import FaultMuseumExplorer

FaultMuseumExplorer("clip_before_unscale").show()

# %% tags=["exercise"]
invisible = "clip_before_unscale"  # or "last_batch_only", "validation_in_training", "weights_reset"

# %% tags=["solution"]
invisible = "weights_reset"

# %%
check("11.invisible", invisible)

# %% [markdown]
# No watch can see these five bugs. One of them is the bug in the question above:
#
# | Bug | Why no step shows it |
# |---|---|
# | The labels are shifted by one. | The loop is correct, and the loss falls as far as the wrong labels allow. |
# | A formula in the loss is wrong. | The gradient is the correct gradient of the wrong formula. |
# | The learning rate is a hundred times too small. | All steps are correct, but very short. |
# | Tuned weights were overwritten by defaults. | The defaults are valid values. |
# | The augmentation (a random change of the inputs) removes what the label describes. | The inputs are finite, and new in each epoch, as they should be. |
#
# ## Where this happened to others
#
# - **Clipped before unscaling.** `milesial/Pytorch-UNet#468`, fixed in `milesial/Pytorch-UNet#470`: the gradients were
#   clipped while they still contained the loss scale. The watch reports this as W06.
# - **The learning-rate schedule counted micro-batches.** `Lightning-AI/pytorch-lightning#1476` and
#   `huggingface/accelerate#963`: with accumulation (several micro-batches per step), the schedule advanced once per
#   micro-batch, not once per step. The watch reports this as W05.
#
# ## In three lines
#
# - Every correct training step follows the same rules, for every model. A bug that raises no exception often breaks one
#   of them.
# - Trust a report that gives numbers, shows the line, and says what it could not check.
# - No watch knows what you wanted. To check that, use tests and predictions.
#
# **Next.** This is the end of both paths. From here on, use `covlab watch` on your own scripts.
