# ---
# jupyter:
#   kernelspec:
#     display_name: Python 3
#     language: python
#     name: python3
# ---

# %% [markdown]
# # 00 · Start here
#
# **Question.** A training run does not learn, and somebody names the line that caused it. Do you believe it?
#
# **Bugs path** 1 of 6 · **Whole course** 1 of 12 · 20 minutes · needs no other lesson
#
# This page is a notebook: a sequence of cells with text or code. Run each cell with Shift+Enter, from top to bottom.
# The end of this lesson explains the two paths.
#
# ## A log that never changes
#
# A network trains for 30 epochs. (An epoch is one pass over the training examples.) Nothing crashes. In every epoch,
# the log shows the same two numbers:
#
# ```text
# train 0.000000   val 1.921642
# ```
#
# This happened in a real research project. Here are the main lines of such a loop:
#
# ```python
# for number, batch in enumerate(batches, 1):
#     loss = weights["error"] * error(network(batch))  # A
#     loss = loss / 4                                  # B
#     loss.backward()
#     logged += loss.item()                            # C
#     if number % 4 == 0:                              # D
#         optimizer.step()
#         optimizer.zero_grad()
# ```
#
# Line A computes the loss. Four batches make one optimizer step, so line B divides the loss by four. Line C adds the
# loss to the sum that the log shows as `train`. Line D decides when to take a step. `val` is the error of the network,
# measured after each epoch.
#
# A code review found one bug, in line B. In that project, the division was inside an `if` block for debugging. That
# block ran only for the very first batch, so no other loss was divided. The review called everything else correct. It
# said: fix line B, and the run will learn.
#
# Was that the cause? You can read the loop again and guess. Or you can break a line on purpose and see what happens.

# %% tags=["parameters"]
profile = "cpu"
seed = 0

# %%
# Loading PyTorch takes about 5 s.
from covlab.course import outcome, predict
from covlab.course.experiments import frozen_log as lab
from covlab.widgets import ScalingBugExplorer

LINES = ["A: the loss", "B: the division", "C: the sum that the log shows", "D: when to take a step"]
predict(
    "00.line",
    "We break one of these lines. Then `train` is 0.000000, and `val` never changes. Which line is it?",
    LINES,
)

# %% [markdown]
# Run the next cell, which trains two networks in a few seconds. Then switch **the bug** off and on. The first panel
# shows the correct run. The second panel shows the run with your switch setting. Both start from the same parameters
# and see the same batches.
#
# The solid line is `val`, the error of the network: 0 is perfect, and an untrained network has about 1. (The figures
# call this error NMSE. Lesson 02 explains the name.) The dashed line is `train`, the loss as the log shows it. Leave
# the other controls alone for now.

# %%
explorer = ScalingBugExplorer(lab.FAULT, seed)
explorer.show()

# %% [markdown]
# Now look at the last panel: how large are the gradients of each run? And here is the last line of both logs:

# %% tags=["hide-input"]
# Prints the last line of both logs
explorer.draw(explorer.state | {"bug": "on"})  # trains this setting, if it is new
correct, buggy = explorer.pair(explorer.state | {"bug": "on"}).values()
print("without the bug: ", lab.last_line(correct))
print("with the bug:    ", lab.last_line(buggy))

# %% tags=["hide-input"]
# Shows which line it was
if not lab.prints_the_log(buggy) or lab.prints_the_log(correct):
    raise RuntimeError("the explanation no longer follows from the runs above")
outcome(
    "00.line",
    LINES[0],
    because="The code asks for the weight by a wrong name, and gets 0. Multiplied by 0, the loss is 0, and so is its "
    "gradient. So no parameter changes, and `val` stays the same.",
)

# %% [markdown]
# This is the broken line. The settings call this weight `lam_cov`, and the code asks for another name:
#
# ```python
# weight = settings.get("lambda_cov", 0.0)
# ```
#
# So one wrong name is enough for such a log. **Was this the cause in the project? No.** The project also printed its
# weight, and the weight was 1. So its line A was correct.
#
# So the same log can have several possible causes, and reading the code again does not tell you which one it was. This
# does: ask what each suspect *would* change, switch it on alone, and measure. The review did not do that with line B.
# You will: lesson 05 shows what the division is for, and lesson 06 tests ten possible causes, the suspects.
#
# ## Predict, run, explain
#
# Every lesson works like this: you guess before you run. It takes a minute, and you remember an answer better if you
# guessed first.
#
# Here is a second guess, about a run without any bug. We give a small network 512 training examples and let it see each
# one 30 times. Can it memorize them? This is an *overfit test*. It is the first thing to try with a new loop.

# %%
CHOICES = ["about a half", "about a tenth", "a hundredth or less"]
predict("00.memorize", "Untrained, its error on these examples is about 1. After 30 epochs the error is …", CHOICES)

# %%
# about 4 s
from covlab.course import band, check, choose_device, reference_trainer, show_machine, show_progress

device = choose_device(profile)
run = reference_trainer("overfit", seed, device=device).fit()
for row in run.history[::6] + run.history[-1:]:
    print(f"epoch {row['epoch'] + 1:2}   train {row['train']:.3f}   val {row['validation']:.3f}")

# %% tags=["hide-input"]
# Shows how far it got
reached = run.history[-1]["validation"]
outcome(
    "00.memorize",
    CHOICES[2] if reached < 0.03 else CHOICES[1] if reached < 0.25 else CHOICES[0],
    because=f"It reached {reached:.4f} on examples that it has seen 30 times. On new ones it does worse: see lesson 01.",
)

# %% [markdown]
# A correct loop passes an overfit test. But is this a good run? A number means nothing without something to compare it
# with. So covlab, the Python package of this course, comes with 16 correct runs. They differ only in their random
# numbers. The band in the figure shows where their curves lie, and your curve is drawn over it:

# %%
band("overfit", run)

# %% [markdown]
# Your curve should lie inside the band. (Both panels look alike, because this test validates on the examples that it
# trains on.) The curve of a broken loop leaves the band, often in a way that points to the bug: it is too high by a
# constant factor, it falls too late, or it is flat. You will use `band` again.
#
# ## Find and fix: has the log stopped changing?
#
# The code of an exercise runs, but its result is wrong. You fix it, and `check` tests your version with random inputs.
# If it fails, `check` tells you what went wrong. It also recognizes typical mistakes.
#
# Here is the first exercise. A colleague wrote a function that should notice when a log no longer changes. Sometimes it
# answers "stuck" although the log changes. Run both cells as they are, read what `check` says, and then fix the
# function.


# %% tags=["exercise"]
def stuck(values):
    """Are all values of a log [epochs] the same, to six digits after the point? -> True or False."""
    return round(values[0], 6) == round(values[-1], 6)


# %% tags=["solution"]
def stuck(values):
    """Are all values of a log [epochs] the same, to six digits after the point? -> True or False."""
    return len({round(value, 6) for value in values}) == 1


# %%
check("00.stuck", stuck)

# %% [markdown]
# A hint never contains the answer. If you cannot solve an exercise, try three different answers that run without an
# exception. After that, `check("00.stuck", stuck).solution()` shows an answer that works.
#
# ## Is this machine ready?

# %%
show_machine()

# %% [markdown]
# A "note" is only for your information. A "to do" says what you should do. You never need a GPU. If you have one, set
# `profile = "gpu"` at the top of a lesson: lessons 04, 05, 06, 08 and 09 then train a larger network.
#
# Most code that only draws or measures is folded, and its first line says what it does. Click on **•••** to see it.
#
# Your copies of the notebooks are in `work/`, and nothing overwrites them. For a fresh copy next to yours, type
# `make reset LESSON=00` in a terminal. Your answers and predictions stay on this machine, in `work/.progress.json`. So
# far:

# %%
show_progress()

# %% [markdown]
# ## Choose your path
#
# The **bugs path** needs no knowledge of radio. You only have to know that input tensors go into a network, and a 16 ×
# 16 matrix comes out. The **whole course** also explains what the tensors are, and compares a trained network with the
# classical methods. You should know some Python, and have written a training loop in PyTorch once.
#
# | | Lesson | The question | Bugs path | Minutes | |
# |---|---|---|---|---|---|
# | 00 | start here | Do you believe that this line is the cause? | 1 of 6 | 20 | needs no other lesson |
# | 01 | [data and shapes](01_data_shapes.ipynb) | What breaks if two axes are swapped, and what notices it? | | 45 | needs 00 |
# | 02 | [NMSE and trace normalization](02_nmse_trace_normalization.ipynb) | What do you gain if the loss ignores the scale, and what does it cost? | | 40 | 01 helps |
# | 03 | [loss terms and weights](03_loss_terms_and_weights.ipynb) | What does each weight do to the gradient? | | 40 | 02 helps |
# | 04 | [mixed precision](04_mixed_precision.ipynb) | What does half precision lose, and what does the loss scale save? | 3 of 6 | 45 | needs no other lesson |
# | 05 | [gradient accumulation](05_gradient_accumulation.ipynb) | When is an accumulated step the same as the step of the big batch? | 2 of 6 | 45 | needs no other lesson |
# | 06 | [the scaling bug](06_the_scaling_bug.ipynb) | Which of ten suspects caused the log? | 5 of 6 | 60 | 05 helps |
# | 07 | [overflow and sanitization](07_overflow_and_sanitization.ipynb) | How does hiding an overflow stop a run from learning? | 4 of 6 | 45 | needs 04 |
# | 08 | [training for real](08_training_for_real.ipynb) | How good is the network, compared with what was known before? | | 50 | 02 and 06 help |
# | 09 | [tuning the weights](09_tuning_the_weights.ipynb) | Who sets the weights, and how do you know which were used? | | 40 | 03 helps |
# | 10 | [many processes](10_many_processes.ipynb) | What changes when several processes share a batch? | | 40 | 05 helps |
# | 11 | [watch your own loop](11_watch_your_own_loop.ipynb) | Which of these bugs are in *your* loop? | 6 of 6 | 40 | 05 and 07 help |
#
# At the end you can look at the log of a broken training run, list the bugs that could have caused it, and measure
# which one did.
#
# ## In three lines
#
# - Different bugs can produce the same log. So a log alone cannot tell you which line is wrong.
# - To test a suspect, switch it on alone and measure what it changes.
# - Guess first, then run, then compare with runs that are known to be correct.
#
# **Next.** On the bugs path: [05 · Gradient accumulation](05_gradient_accumulation.ipynb), where you take line B apart.
# In the whole course: [01 · Data and shapes](01_data_shapes.ipynb), where scrambled data passes the overfit test.
