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
# A loss that adds up several terms has a weight for each. You can search for good weights by training many
# short runs. In this lesson you will
#
# - see why the loss cannot judge its own weights;
# - run one search from two processes at once;
# - find out where each weight of a run came from, and how much of the winner's lead is luck.
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
# scenes. Only one weight differs: that of the term called *peak contrast*. Each run logs its loss. Afterwards, you also
# measure its error (NMSE, lesson 02) on 1,024 scenes that no run has seen.

# %%
predict(
    "09.judge",
    "Of the three runs, the one with the lowest logged loss is the one with …",
    ["the lowest error on unseen scenes", "the smallest weight", "the largest weight"],
)

# %%
contrasts = (0.001, 0.1, 1.0)
runs = {value: short_run(scenario, unseen, LossWeights(lam_peak_contrast=value), seed=seed) for value in contrasts}
train_together(*runs.values())
logged = {value: run.history[-1]["train"] for value, run in runs.items()}
errors = {value: run.history[-1]["validation"] for value, run in runs.items()}

# %% tags=["hide-input"]
# The table of the three runs
from covlab import plots
from covlab.course import measure

plots.table(
    ["weight of the peak contrast", "loss as logged", "NMSE on unseen scenes"],
    [(f"{value:g}", f"{logged[value]:.3f}", f"{errors[value]:.3f}") for value in contrasts],
    "After 60 windows each.",
)

# %% tags=["hide-input"]
# Compares your prediction with the three runs
lowest, winner = min(logged, key=logged.get), min(errors, key=errors.get)
measure("09.logged_ratio", logged[1.0] / logged[0.001])
measure("09.error_ratio", errors[1.0] / errors[0.001])
happened = {min(contrasts): "the smallest weight", max(contrasts): "the largest weight"}.get(
    lowest, "the lowest error on unseen scenes"
)
outcome(
    "09.judge",
    happened,
    because=(
        "A smaller weight makes a smaller sum, whatever the network has learned. "
        f"The lowest error on unseen scenes belongs to the weight {winner:g}."
    ),
)

# %% [markdown]
# The heaviest weight logs <span data-claim="09.logged_ratio">1.7</span>&nbsp;times the loss of the lightest. Its error
# is only <span data-claim="09.error_ratio">1.1</span>&nbsp;times as large. The two columns measure different things.
#
# A search that minimizes the weighted loss therefore turns every weight down, and reports a splendid result. The judge
# must be something that no weight can change. covlab's studies use the NMSE on held-out scenes.
#
# ## One study, two workers
#
# A search is called a **study**, and each short run in it is a **trial**. The study is kept in a *storage*. Here that
# is a file; it can also be a database that many machines share. Any process that knows the study's name can join.
#
# Below, two workers share one study until it holds eight finished trials. One is this kernel. The other is a second
# process that runs `covlab tune`, just as you could in another terminal.

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
# Draws who ran which trial, and every trial's error
from optuna.trial import TrialState

from covlab.plots.studies import trials_of


def numbers(lines):
    return {int(line.split()[1].rstrip(":")) for line in lines if line.startswith("trial ")}


finished = study.get_trials(states=(TrialState.COMPLETE, TrialState.PRUNED))
plots.show(
    trials_of(finished, {"this kernel": numbers(mine), "second process": numbers(theirs)}),
    "Left, two lanes of numbered bars over time: both workers run trials of the one study at the same time. Right, the "
    "held-out error of every trial after each epoch. All fall, and the best one is thick. A trial that was stopped "
    "early would be short and dashed.",
)
if not (numbers(mine) and numbers(theirs)):
    raise RuntimeError("one of the two workers ran no trial; the text says that both do")

# %% [markdown]
# On the left you see who worked when. Every trial has a number, and no number runs twice. Nobody hands out the work: a
# trial is a row in the storage, and a worker that is free takes the next one.
#
# If a worker is killed, only its own trial is lost. A running worker regularly writes a sign of life to the storage.
# When these stop, another worker starts that trial again.
#
# On the right you see what each trial achieved. A study also stops trials early when they do badly, so that more
# time is left for better ones.
#
# ## Find and fix: when to stop a trial
#
# A colleague wrote this rule. It is meant to stop a trial that does worse than most others did. But it stops nearly
# every trial after its first epoch, including the ones that would have won.


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
# After a study, this function names the winner. Its winners have remarkably small weights, and do badly on
# unseen scenes.


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
# covlab sets weights in one place, `LossWeights`. The study's result goes there too. Each weight remembers where its
# value came from:

# %%
tuned = best(storage, "weights")
plots.table(
    ["weight", "value", "where it came from"],
    [(name, f"{value:.3g}", tuned.weights.provenance[name]) for name, value in tuned.weights.values().items()],
)

# %% [markdown]
# Trial 0 of every covlab study uses the default values. So a search can also end with the result that the defaults were
# the best.
#
# You need this record. In the reviewed project, tuned weights were loaded, and *afterwards* a later line set them back
# to their defaults. There was no exception, the run trained, and the search had been useless. covlab has this bug as a
# switch, `weights_reset`:

# %%
from covlab.faults import inject

found = LossWeights().updated("study last week, trial 7", lam_peak_contrast=0.4, lam_subspace_align=0.01)
with inject("weights_reset"):
    buggy = short_run(scenario, unseen, found, windows=1, seed=seed)

# %% tags=["hide-input"]
# The table of weights asked for, and weights in use
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
# The settings ask for one value, and the loss uses another. If you want to know which weights a run really used, read
# them from the loss itself, and write them to the log.
#
# ## Did the search help?
#
# The best of eight trials is the best *on the scenes that chose it*. Part of its lead is luck. So train the winner and
# the default again, and let scenes judge that played no part in the choice. Do it with two seeds.


# %%
def judged(weights, learning_rate):
    pair = [short_run(scenario, unseen, weights, learning_rate=learning_rate, seed=seed + more) for more in (0, 1)]
    train_together(*pair)
    return [run.history[-1]["validation"] for run in pair]


default = judged(LossWeights(), 3e-3)
chosen = default if tuned.trial == 0 else judged(tuned.weights, tuned.learning_rate)

# %% tags=["hide-input"]
# The table of the default and the winner, on three sets of scenes
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
# than those of the study, for both rows alike. If the chosen trial gets worse by *more* than the default does, the
# difference was luck.
#
# Two seeds cannot prove that a lead is real. They can show that it isn't. Before you report a gain, repeat this with
# more seeds.
#
# ## Where this happened to others
#
# Choosing among many candidates overfits the scenes that choose, just as training overfits the training scenes. Cawley
# and Talbot measured this in *On Over-fitting in Model Selection and Subsequent Selection Bias in Performance
# Evaluation* (JMLR 11, 2010). The bias was often as large as the differences between the methods compared. Their cure is
# the one above: a final test on data that played no part in the choice.
#
# ## In three lines
#
# - Judge weights by an error that no weight can change, on scenes that were not used for training.
# - A study is a storage with a name. Any number of workers can join, and a killed worker loses only its own trial.
# - Record where each weight came from, and test the winner on fresh scenes: it is a little worse than it looks.
#
# **Next.** [10 · Many processes](10_many_processes.ipynb): several processes share not a study, but one training run.
