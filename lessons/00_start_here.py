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
# **Question.** Is my machine ready, and what will I be able to do?
#
# This course is about bugs in training loops that raise no exception: the loop runs, numbers are printed, and they are
# wrong. Twenty minutes to work through, half a minute to run on two cores. You need some Python and a first
# acquaintance with PyTorch.
#
# Run a cell with Shift+Enter, from top to bottom. Code that only draws or measures is folded: a click on **•••** shows
# it.

# %% tags=["parameters"]
profile = "cpu"
seed = 0

# %% [markdown]
# ## Is this machine ready?

# %%
# about 5 s, most of it to load PyTorch
from covlab import plots
from covlab.course import band, check, choose_device, outcome, predict, reference_trainer, show_machine, show_progress

show_machine()
device = choose_device(profile)

# %% [markdown]
# "To do" comes with what to do. A "note" is no obstacle. A GPU is never needed. Where you have one, set
# `profile = "gpu"` in the first cell of a lesson: lessons 04, 05, 06, 08 and 09 then run at full size, on arrays nine
# times as large. Without one such a lesson says so, and runs on the CPU.
#
# ## Move something
#
# The whole course estimates one thing, a matrix R, and measures how far an estimate is from it. In this picture R is
# the star, and you may scale the estimate, turn it away from R, and add noise. Move the scale, by its slider or its
# box, and watch both errors. Below the explorer stand two of its pictures, at scales 1 and 10, with the estimate turned
# by 40 degrees.

# %%
from covlab.widgets import NMSEExplorer

explorer = NMSEExplorer(seed)
explorer.show()

# %% tags=["hide-input"]
for scale in (1, 10):
    figure, alt = explorer.draw({"scale": float(scale), "angle": 40.0, "noise": 0.0})
    figure.suptitle(f"Scale {scale}")
    plots.show(figure, f"Scale {scale}. {alt}")

# %% [markdown]
# One of the two errors does not move when only the scale does. That is convenient, and it has a price: lesson 02.
#
# ## Predict, run, explain
#
# Every lesson asks for a guess before it measures. A guess costs a minute, and a wrong one is worth more than a right
# one. Here is the first. A small network of random first parameters is to memorize 512 scenes. Untrained, its error
# (NMSE) is about 1: it knows nothing. It will see every scene 30 times.

# %%
CHOICES = ["about a half", "about a tenth", "a hundredth or less"]
predict("00.memorize", "After 30 epochs its error on these scenes will be …", CHOICES)

# %%
# about 4 s
run = reference_trainer("overfit", seed, device=device).fit()
for row in run.history[::6] + run.history[-1:]:
    print(f"epoch {row['epoch'] + 1:2}: error in training {row['train']:.3f}, afterwards {row['validation']:.3f}")

# %%
reached = run.history[-1]["validation"]
outcome(
    "00.memorize",
    CHOICES[2] if reached < 0.03 else CHOICES[1] if reached < 0.25 else CHOICES[0],
    because=f"It reached {reached:.4f} on scenes it has seen 30 times. On others it does worse: see lesson 01.",
)
band("overfit", run)

# %% [markdown]
# The band in the picture is made of 16 runs that are known to be right, from other random numbers than yours. Your
# curve should lie in it. (Here the network is validated on the very scenes that it memorizes, so both panels say the
# same.) When a loop is broken, it often leaves the band in a telling way: times a factor, late, or not moving at all.
# You will use `band` again.
#
# ## Exercises: find and mend
#
# The code of an exercise runs, and is wrong. You mend it, and `check` tries it on inputs that nobody chose. It
# never shows the answer, but it knows typical mistakes by their arithmetic. Run these two cells as they are first, and
# read what it says.

# %% tags=["exercise"]
import torch


def in_decibels(power_ratio):
    """A ratio of two powers [n] -> decibels [n]."""
    return 20 * torch.log10(power_ratio)


# %% tags=["solution"]
import torch


def in_decibels(power_ratio):
    """A ratio of two powers [n] -> decibels [n]."""
    return 10 * torch.log10(power_ratio)


# %%
check("00.in_decibels", in_decibels)

# %% [markdown]
# Stuck? After three different answers that ran, `check("00.in_decibels", in_decibels).solution()` shows one way.
#
# Your copies of the notebooks are in `work/`, and nothing overwrites them. `make reset LESSON=00` puts a fresh copy
# beside yours. What you solve and predict is kept in `work/.progress.json` on this machine, and sent nowhere. So far:

# %%
show_progress()

# %% [markdown]
# ## What you will be able to do
#
# | | Lesson | The question you will answer |
# |---|---|---|
# | 01 | [data and shapes](01_data_shapes.ipynb) | What do the axes mean, and what breaks when two are swapped? |
# | 02 | [NMSE and trace normalization](02_nmse_trace_normalization.ipynb) | What does an error buy that ignores the scale, and what does it cost? |
# | 03 | [loss terms and weights](03_loss_terms_and_weights.ipynb) | What does each weight do to the gradient, and why is a 0 silent? |
# | 04 | [mixed precision](04_mixed_precision.ipynb) | What does half precision lose, and what does the loss scale save? |
# | 05 | [gradient accumulation](05_gradient_accumulation.ipynb) | When is an accumulated step the step of the big batch? |
# | 06 | [the scaling bug](06_the_scaling_bug.ipynb) | A review blames one line for a dead training run. Was it that line? |
# | 07 | [overflow and sanitization](07_overflow_and_sanitization.ipynb) | How does hiding an overflow kill a run? |
# | 08 | [training for real](08_training_for_real.ipynb) | How good is the network, next to what was known before networks? |
# | 09 | [tuning the weights](09_tuning_the_weights.ipynb) | Who sets the weights, and how do you know which were used? |
# | 10 | [many processes](10_many_processes.ipynb) | What changes when several processes share a batch? |
# | 11 | [watch your own loop](11_watch_your_own_loop.ipynb) | Which of these bugs are in *your* training loop? |
#
# At the end you can take a training run that prints nonsense, say which bugs could have caused it, and measure which
# one did.
#
# ## Glossary: symbols and words
#
# | Symbol | Here it is | Beware |
# |---|---|---|
# | M | antennas of the base station | much of the literature writes M for *sources* |
# | N | elements of the surface (RIS) | and N for *sensors* |
# | L | snapshots | |
# | K | sources | |
# | y, H, codes, snr_db | the four tensors a network may read | lesson 01 |
# | G | the channel from the RIS to the base station | the same in all scenes |
# | R | the spatial covariance at the RIS, which is to be estimated | without noise; of the distribution, not of these snapshots |
# | R̂ | an estimate of R | covlab's networks return a factor F, and R̂ = F Fᴴ + εI |
#
# | Word | Meaning |
# |---|---|
# | scene | sources at their places with their powers, and what was received from them: one training example |
# | snapshot | one look at a scene: one code, one vector of M received numbers |
# | code, codebook | the phase shifts of the RIS in one snapshot; a fixed set of codes to choose from |
# | steering vector | the phases with which one source's wave reaches the N elements |
# | near field | so close that the wave front is curved, and its curvature tells the distance |
# | SNR | signal-to-noise ratio: power without noise over power of the noise, mostly in decibels |
# | NMSE | normalized mean squared error: 0 is perfect, about 1 knows nothing; lesson 02 |
# | micro-batch | scenes that go through the network together |
# | window | the micro-batches of one optimizer step |
# | accumulation | adding up the gradients of a window's micro-batches before the step |
# | epoch | a stretch of windows, after which one validates |
# | ledger | the run's diary: one row a window |
# | clipping | shortening a gradient that is longer than a threshold |
# | autocast | lets layers compute in half precision |
# | loss scale | the factor that keeps small gradients from vanishing in half precision; it must be taken out before the step |
# | overfit test | memorizing a few fixed scenes, to see that a loop works at all; it says nothing of other scenes |
# | held-out scenes | scenes that training never saw |
# | fault | a bug that can be switched on and off: `covlab faults` lists them |
# | rank | one of several processes that train together; also, of a matrix, how many directions it has |
# | invariant | what a right loop keeps in every step, whatever it trains: lesson 11 |
# | MUSIC | finds places of sources in a covariance: lesson 08 |
# | maximum likelihood on a grid | the classical rival: of all places on a grid, the powers that explain the snapshots best |
# | claim | a number in the text that every run measures again: the lines `measured …` |
#
# **In three lines.** The machine is ready, or you know what it lacks. You guessed, measured, and compared yourself with
# runs that are known to be right. You mended a first function, and were told why it was wrong.
#
# **Onward:** [01 · Data and shapes](01_data_shapes.ipynb), where a test that everybody trusts is passed by nonsense.
