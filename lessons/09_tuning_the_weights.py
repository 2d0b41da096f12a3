# ---
# jupyter:
#   kernelspec:
#     display_name: Python 3
#     language: python
#     name: python3
# ---

# %% [markdown]
# # 09 · Tuning the weights
#
# **Question.** The loss has nine weights. How do you find out whether one value is better than another?
#
# **Whole course** 10 of 12 · 40 minutes · 03 helps
#
# A loss that adds up several terms has a weight for each term. You can search for good weights by training many short
# runs. In this lesson you will
#
# - find out what can judge the weights, and what cannot;
# - run one search from two processes at once;
# - find out where each weight of a run came from, and whether the winner's lead is luck.
#
# Running all cells takes less than a minute.

# %% tags=["parameters"]
profile = "cpu"
seed = 0

# %%
# about 5 s, most of it to load PyTorch
from covlab.course import check, choose_device, choose_scenario, outcome, predict
from covlab.course.experiments.tuning import another_worker, short_run, temporary_storage, unseen_scenes
from covlab.training.loss import LossWeights
from covlab.training.together import train_together

device = choose_device(profile)
scenario = choose_scenario(device)
unseen = unseen_scenes(scenario, seed, device)

# %% [markdown]
# ## Who is the judge?
#
# You train three small networks for 60 optimizer steps each. They start from the same parameters and see the same
# *scenes* (training examples). Only one weight differs: that of the term called *peak contrast*. Each run logs its
# loss. Afterwards, you also measure its error on 1,024 scenes that no run has seen. The error is the NMSE (lesson 02):
# 0 is perfect, and about 1 is a network that knows nothing.

# %%
CHOICES = [
    "differs as much as the error",
    "is much larger, but the error is not",
    "is much smaller, but the error is not",
]
predict(
    "09.judge",
    "The weight is 0.001, 0.1 or 1. Compare the run with weight 1 with that of weight 0.001. Its logged loss …",
    CHOICES,
)

# %%
contrasts = (0.001, 0.1, 1.0)
runs = {value: short_run(scenario, unseen, LossWeights(lam_peak_contrast=value), seed=seed) for value in contrasts}
train_together(*runs.values())
logged = {value: run.history[-1]["train"] for value, run in runs.items()}
errors = {value: run.history[-1]["validation"] for value, run in runs.items()}

# %% tags=["hide-input"]
# Shows the table of the three runs
from covlab import plots
from covlab.course import measure

plots.table(
    ["weight of the peak contrast", "loss as logged", "NMSE on unseen scenes"],
    [(f"{value:g}", f"{logged[value]:.3f}", f"{errors[value]:.3f}") for value in contrasts],
    "After 60 windows (optimizer steps) each.",
)

# %% tags=["hide-input"]
# Compares your prediction with the three runs
loss_ratio, error_ratio = (values[1.0] / values[0.001] for values in (logged, errors))
measure("09.logged_ratio", loss_ratio)
measure("09.error_ratio", error_ratio)
outcome(
    "09.judge",
    CHOICES[1] if loss_ratio > 1.3 * error_ratio else CHOICES[2] if 1.3 * loss_ratio < error_ratio else CHOICES[0],
    because="The weight multiplies a term of the sum, so a larger weight makes a larger sum, whatever the network has "
    f"learned. The loss is {loss_ratio:.2f} times as large, the error {error_ratio:.2f} times.",
)

# %% [markdown]
# The run with the largest weight logs <span data-claim="09.logged_ratio">1.7</span>&nbsp;times the loss of the run with
# the smallest weight. Its error is only <span data-claim="09.error_ratio">1.1</span>&nbsp;times as large. The two
# columns measure different things.
#
# So a search that minimizes the weighted loss turns every weight down, and reports a very good result. You must judge
# by something that no weight can change directly. covlab's searches use the NMSE on *held-out* scenes, which are not
# used for training.
#
# ## One study, two workers
#
# A search is called a **study**, and each short run in it is a **trial**. A process that runs trials is a *worker*. The
# study is kept in a *storage*. Here the storage is a file. It can also be a database that many machines share. Any
# process that knows the storage and the study's name can join.
#
# Below, two workers share one study until it holds eight finished trials. One is this notebook's kernel. The other is a
# second process that runs `covlab tune`, as you could do in another terminal.

# %%
# about 10 s
from covlab.training.study import best, open_study, work

storage = temporary_storage()  # sqlite:///…/study.db
study = open_study(
    storage,
    "weights",
    preset=scenario.name,
    windows=60,
    epoch=10,
    validation=512,
    seed=seed,
    search={"learning_rate": (3e-4, 3e-2), "lam_peak_contrast": (1e-3, 1.0), "lam_subspace_align": (1e-3, 1.0)},
)
mine = []
with another_worker("weights", storage, trials=8) as theirs:
    work(study, trials=8, device=device, say=mine.append)

# %% tags=["hide-input"]
# Draws which worker ran which trial, and every trial's error
from optuna.trial import TrialState

from covlab.plots.studies import trials_of


def numbers(lines):
    return {int(line.split()[1].rstrip(":")) for line in lines if line.startswith("trial ")}


finished = study.get_trials(states=(TrialState.COMPLETE, TrialState.PRUNED))
plots.show(
    trials_of(finished, {"this kernel": numbers(mine), "second process": numbers(theirs)}),
    "Left, two rows of numbered bars over time. Both workers run trials of the same study at the same time. Right, the "
    "held-out error of every trial after each epoch. All fall, and the best one is thick. A trial that was stopped "
    "early would be short and dashed.",
)
if not (numbers(mine) and numbers(theirs)):
    raise RuntimeError("one of the two workers ran no trial; the text says that both do")

# %% [markdown]
# On the left you see which worker ran which trial, and when. Every trial has a number, and no number runs twice. No
# central process assigns the work. A trial is a row in the storage, and a free worker takes the next one.
#
# If a worker is killed, only its own trial is lost. A running worker regularly writes to the storage that it is alive.
# If it stops writing, another worker starts its trial again.
#
# On the right you see what each trial achieved. A study also stops bad trials early, so that more time is left for
# better ones. Such a trial is called *pruned*.
#
# ## Find and fix: when to stop a trial
#
# A colleague wrote this rule. It should stop a trial that does worse than most other trials did. But it stops almost
# every trial after its first epoch, even trials that would have won.


# %% tags=["exercise"]
def should_stop(own, others):
    """Compare a trial with the median of the others: True if it should be stopped.

    own: this trial's errors so far, one per epoch [e]. others: errors of n other trials, in all their E epochs [n, E].
    """
    return bool(own[-1] > others[:, -1].median())


# %% tags=["solution"]
def should_stop(own, others):
    """Compare a trial with the median of the others: True if it should be stopped.

    own: this trial's errors so far, one per epoch [e]. others: errors of n other trials, in all their E epochs [n, E].
    """
    return bool(own[-1] > others[:, len(own) - 1].median())


# %%
check("09.should_stop", should_stop)

# %% [markdown]
# ## Find and fix: which trial won
#
# After a study, this function returns the number of the winner. But its winners have very small weights, and large
# errors on unseen scenes.


# %% tags=["exercise"]
def best_trial(losses, held_out, pruned):
    """The number of the best trial; trials are numbered 1, 2, …, n.

    losses: each trial's final weighted loss [n]. held_out: its last error on held-out scenes [n].
    pruned: True if the trial was stopped early [n].
    """
    return losses.argmin() + 1


# %% tags=["solution"]
import torch


def best_trial(losses, held_out, pruned):
    """The number of the best trial; trials are numbered 1, 2, …, n.

    losses: each trial's final weighted loss [n]. held_out: its last error on held-out scenes [n].
    pruned: True if the trial was stopped early [n].
    """
    return held_out.masked_fill(pruned, torch.inf).argmin() + 1


# %%
check("09.best_trial", best_trial)

# %% [markdown]
# ## Where did this weight come from?
#
# covlab sets all weights in one class, `LossWeights`. The weights that a study finds go there, too. Each weight
# remembers where its value came from:

# %%
tuned = best(storage, "weights")
plots.table(
    ["weight", "value", "where it came from"],
    [(name, f"{value:.3g}", tuned.weights.provenance[name]) for name, value in tuned.weights.values().items()],
)

# %% [markdown]
# Trial 0 of every covlab study uses the default values. So the result of a search can also be that the defaults were
# the best.
#
# You need this record. In the research project of lesson 06, the program loaded the tuned weights, but a later line set
# them back to their defaults. There was no exception, and the run trained. The search had been useless. You can switch
# this bug on in covlab. It is called `weights_reset`:

# %%
from covlab.faults import inject

found = LossWeights().updated("study last week, trial 7", lam_peak_contrast=0.4, lam_subspace_align=0.01)
with inject("weights_reset"):
    buggy = short_run(scenario, unseen, found, windows=1, seed=seed)

# %% tags=["hide-input"]
# Shows the table of weights asked for, and weights in use
terms = ("peak_contrast", "subspace_align")
asked = {term: found.values()[f"lam_{term}"] for term in terms}
plots.table(
    ["weight", "asked for", "where it came from", "in use"],
    [
        (f"lam_{term}", f"{asked[term]:g}", found.provenance[f"lam_{term}"], f"{buggy.loss.active[term]:g}")
        for term in terms
    ],
    "With the bug.",
)
if any(buggy.loss.active[term] == asked[term] for term in terms):
    raise RuntimeError("the switch does not show what the text says")

# %% [markdown]
# The settings ask for one value, and the loss uses another value. If you want to know which weights a run really used,
# read them from the loss itself, and write them to the log.
#
# ## Did the search help?
#
# The best of eight trials is the best *on the scenes that were used to choose it*. Part of its lead is luck. So train
# the winner and the default again, and measure both on scenes that played no part in the choice. Do it with two seeds.


# %%
def judged(weights, learning_rate):
    pair = [short_run(scenario, unseen, weights, learning_rate=learning_rate, seed=seed + more) for more in (0, 1)]
    train_together(*pair)
    return [run.history[-1]["validation"] for run in pair]


default = judged(LossWeights(), 3e-3)
chosen = default if tuned.trial == 0 else judged(tuned.weights, tuned.learning_rate)

# %% tags=["hide-input"]
# Shows the table of the default and the winner, measured three times
first = study.get_trials()[0]  # the default
in_study = f"{first.value:.3f}" if first.state == TrialState.COMPLETE else "stopped"
plots.table(
    ["", "on the study's own scenes", "on unseen scenes", "unseen, trained with another seed"],
    [
        ("trial 0, the default", in_study, *(f"{error:.3f}" for error in default)),
        (f"trial {tuned.trial}, chosen", f"{tuned.nmse:.3f}", *(f"{error:.3f}" for error in chosen)),
    ],
    "NMSE.",
)

# %% [markdown]
# Read each row from left to right. (If the default won, both rows are the same.) Unseen scenes can be easier or harder
# than those of the study. This affects both rows in the same way. If the chosen trial gets worse by *more* than the
# default does, that part of its lead was luck.
#
# Two seeds cannot prove that a lead is real. They can show that it isn't. Before you report a gain, repeat this with
# more seeds.
#
# ## Where this happened to others
#
# If you choose among many candidates, you overfit the scenes that you choose with. In the same way, training overfits
# the training scenes. Cawley and Talbot measured this in *On Over-fitting in Model Selection and Subsequent Selection
# Bias in Performance Evaluation* (JMLR 11, 2010). The bias was often as large as the differences between the methods
# that were compared. Their solution is the one above: a final test on data that played no part in the choice.
#
# ## In three lines
#
# - Judge weights by an error that no weight can change directly, on scenes that were not used for training.
# - A study is a storage with a name. Any number of workers can join, and a killed worker loses only its own trial.
# - Record where each weight came from. Test the winner on fresh scenes, because it is usually a little worse than it
#   looks.
#
# **Next.** [10 · Many processes](10_many_processes.ipynb): there, several processes share one training run, not only a
# study.
