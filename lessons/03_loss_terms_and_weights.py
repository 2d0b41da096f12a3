# ---
# jupyter:
#   kernelspec:
#     display_name: Python 3
#     language: python
#     name: python3
# ---

# %% [markdown]
# # 03 · Nine terms and their weights
#
# **Question.** What does each weight do to the gradient? And why is a weight of 0 silent?
#
# You will be able to say how hard a term pulls (which its weight does not tell, nor its share of the loss), to see how
# that changes in training, and to tell three kinds of zero in a log apart. About 40 minutes to read; a minute to run,
# on the CPU whatever the profile. Lesson 02 helps.

# %% tags=["parameters", "unread"]
profile = "cpu"
seed = 0

# %%
# about 5 s, most of it to load PyTorch
from covlab import plots
from covlab.course import check, measure, outcome, predict
from covlab.course.experiments import gradient_pulls as lab
from covlab.plots import loss_terms as pictures
from covlab.training.loss import LossWeights

# %% [markdown]
# ## What the loss asks for
#
# The network returns a *factor* $F$ with few columns, and says $R_{\text{pred}} = FF^{\mathsf H} + \varepsilon I$. Its
# final estimate $\hat R$ is this, blended with a fifth of what the snapshots say by themselves. The error of $\hat R$
# alone would do for a loss. Who trains such a network still adds terms, because each of them knows something about a
# good answer: $L = \sum_i \lambda_i\,t_i$, with nine terms
# $t_i$ in covlab.

# %% tags=["hide-input"]
wishes = {
    "lam_cov": "R̂ is near R (the NMSE)",
    "lam_cov_pred": "so is R_pred, before the blend",
    "lam_ortho": "the columns of F are at right angles",
    "lam_cross": "the off-diagonal entries are near R's",
    "lam_gap": "the sources' eigenvalues stand out",
    "lam_K": "the sources are counted right",
    "lam_subspace_align": "the power lies where the sources are",
    "lam_peak_contrast": "the beam spectrum peaks there",
    "lam_aux": "the positions are right",
}
defaults = LossWeights()
plots.table(
    ["weight", "default", "the term wishes that"],
    [(name, weight, wishes[name]) for name, weight in defaults.values().items()],
)

# %% [markdown]
# The smallest weight that is on is `lam_ortho`, a thousandth of `lam_cov`. Before you see anything:

# %%
predict(
    "03.ortho",
    "Each times its weight: beside the gradient of `lam_cov`'s term, "
    "that of `lam_ortho`'s is in the first training step …",
    ["a thousandth as long", "a tenth as long", "about as long"],
)

# %% [markdown]
# ## The experiment
#
# An untrained network and 120 scenes. For each term: its value, its gradient over all parameters, and what its weight
# makes of both. Every gradient is computed once: a weight stretches its term's gradient and changes nothing else.

# %%
# about 4 s
history = lab.terms_over_training(seed)
first, last = history[0], history[-1]
seen = first.terms.weighted(lab.DEFAULTS)

# %% tags=["hide-input"]
plots.show(
    pictures.term_shares(first.terms, seen, lab.DEFAULTS),
    "Left, each term's share of the loss and of the gradients' lengths: lam_cov has four fifths of the loss and a "
    "third of the lengths, lam_ortho less than a thousandth of the loss and nearly another third of the lengths. "
    "Right, the cosines between the terms' gradients: lam_cov, lam_cov_pred, lam_cross and lam_subspace_align pull "
    "almost the same way, lam_ortho nearly at right angles to them.",
)

# %% [markdown]
# Left, blue: what part of the loss a term is; orange: what part of the gradient, by length. Mind that the axis is
# logarithmic. Right: do two terms pull the same way (1), at right angles (blank) or against each other (below 0)?

# %%
ratio = seen.norms["lam_ortho"] / seen.norms["lam_cov"]
happened = "a thousandth as long" if ratio < 0.01 else "a tenth as long" if ratio < 0.4 else "about as long"
outcome("03.ortho", happened, because="A weight multiplies a gradient. It does not say how long that is.")

# %% tags=["hide-input"]
measure("03.ortho_of_loss", 100 * seen.loss_shares["lam_ortho"])
measure("03.ortho_pull", ratio)
measure("03.cosine_cross", first.terms.cosines[0][list(lab.DEFAULTS).index("lam_cross")])
measure("03.cosine_ortho", first.terms.cosines[0][list(lab.DEFAULTS).index("lam_ortho")])

# %% [markdown]
# Four questions that sound alike, and have four answers:
#
# | Question | of `lam_ortho` |
# |---|---|
# | What is its weight? | a thousandth |
# | What is its share of the loss? | <span data-claim="03.ortho_of_loss">0.06</span>&nbsp;per cent |
# | How hard does it pull, beside the main term? | about <span data-claim="03.ortho_pull">0.9</span>&nbsp;times as hard |
# | Where does it pull? | elsewhere: its gradient's cosine with the main term's is <span data-claim="03.cosine_ortho">0.06</span>, nearly a right angle |
#
# The last one matters as much as the third. The gradient of `lam_cross` has a cosine of
# <span data-claim="03.cosine_cross">1.00</span> with the main term's: its weight is a little more of `lam_cov` under
# another name, and no study of weights will tell the two apart.
#
# **Why does so light a term pull so hard?** It scales the columns of the predicted factor to length 1 before it
# compares them. Lesson 02: an error that does not see a length has a gradient that goes with *one over* that length,
# and the columns of an untrained network are short. So the pull should not last.

# %%
windows = [look.window for look in history]
weighted = [look.terms.weighted(lab.DEFAULTS) for look in history]
shown = ["lam_cov", "lam_ortho", "lam_K", "lam_peak_contrast", "lam_cov_pred", "lam_subspace_align", "lam_cross"]
pulls = {name: [each.norms[name] for each in weighted] for name in shown}

# %% tags=["hide-input"]
plots.show(
    pictures.pulls_over_training(windows, pulls),
    "Length of each term's weighted gradient over 120 windows. lam_cov and lam_ortho start alike; within ten windows "
    "lam_cov has grown tenfold and lam_ortho has fallen to a third, and it stays more than an order of magnitude "
    "below.",
)

# %% tags=["hide-input"]
measure("03.column_growth", last.column / first.column)
measure("03.ortho_pull_late", weighted[-1].norms["lam_ortho"] / weighted[-1].norms["lam_cov"])

# %% [markdown]
# Within ten windows the picture is another one, and after 120 `lam_ortho` pulls
# <span data-claim="03.ortho_pull_late">0.02</span>&nbsp;times as hard as the main term. Two lines have moved, for one
# reason: the columns of $F$ are about <span data-claim="03.column_growth">11</span>&nbsp;times as long. The gradient of
# `lam_ortho` went down with it, as lesson 02 says. That of `lam_cov` went *up*: while $F$ is short,
# $FF^{\mathsf H} + \varepsilon I$ is mostly $\varepsilon I$, and hardly notices it.
#
# **A weight has no meaning of its own.** It has one for a
# network, at a moment. A weight that was tuned by its effect on the first steps was tuned for a network that no longer
# exists.

# %% [markdown]
# ## Find and mend: how hard does the whole pull?
#
# Given the weights and every term's gradient, how long is the gradient of the loss? Somebody added the lengths.


# %% tags=["exercise"]
def pull(weights, gradients):
    """Length of the gradient of Σ λ_i · term_i: weights [terms], the terms' gradients [terms, P] -> one number."""
    return (weights * gradients.norm(dim=1)).sum()


# %% tags=["solution"]
def pull(weights, gradients):
    """Length of the gradient of Σ λ_i · term_i: weights [terms], the terms' gradients [terms, P] -> one number."""
    return (weights @ gradients).norm()


# %%
check("03.pull", pull)

# %% [markdown]
# ## Play with it
#
# Nine sliders, the same picture. Try to give every term the same pull. Then train, and compare the held-out error: it
# is measured alike whatever the weights.

# %%
from covlab.widgets import LossWeightsExplorer

explorer = LossWeightsExplorer(seed)
explorer.show()

# %% [markdown]
# One more of its pictures: `lam_ortho` at 1, where a term that knows nothing of the truth takes the lead.

# %% tags=["hide-input"]
explorer.still_of("lam_ortho at 1", {"lam_ortho": 1.0})

# %% [markdown]
# ## Why is 0 silent?
#
# A program reads its weights by name. Once, somewhere, it asks for `lambda_cov` where the settings say `lam_cov`, with
# `.get("lambda_cov", 0.0)`. The main weight is now 0. Nothing else is wrong.

# %%
STAYS, ABOVE = "stays where it starts", "falls, and stays above that of the right run"
BELOW = "falls, and stays below that of the right run"
predict("03.lost", "The main weight of nine is silently 0. The run's logged loss …", [STAYS, ABOVE, BELOW])

# %%
# about 5 s
pair = {"right": lab.trained(seed=seed), "main weight 0": lab.trained("main_weight_zero", seed=seed)}

# %% tags=["hide-input"]
plots.show(
    pictures.logged_and_held_out(pair),
    "Left, the loss as logged over 30 epochs: both runs fall, and the one without its main term lies far below the "
    "right one throughout. Right, the held-out NMSE: both fall, and the run without its main term stays a little "
    "above.",
)

# %%
right, lost = (run.history for run in pair.values())
below = all(without["train"] < whole["train"] for without, whole in zip(lost, right, strict=True))
falls = lost[-1]["train"] < 0.9 * lost[0]["train"]
happened = STAYS if not falls else BELOW if below else ABOVE
outcome("03.lost", happened, because="A loss with fewer terms is a smaller number.")

# %%
alone = lab.trained("main_weight_zero", seed=seed, weights={"lam_cov": 1.0}, windows=20)
print("The main weight lost, and no other term on:")
for row in alone.history[:3]:
    print(f"    train {row['train']:.6f}   val {row['validation']:.6f}")

# %% tags=["hide-input"]
measure("03.lost_loss", lost[-1]["train"] / right[-1]["train"])
measure("03.lost_error", lost[-1]["validation"] / right[-1]["validation"])
measure("03.alone_train", alone.history[-1]["train"])

# %% [markdown]
# The broken run looks *better*: it logs <span data-claim="03.lost_loss">0.2</span>&nbsp;times the right run's loss, and
# it learns, because seven other terms want something similar. What it reaches is
# <span data-claim="03.lost_error">1.1</span>&nbsp;times the right run's error. You would blame the network. Only where
# no other term covers for it is the zero naked: the log prints <span data-claim="03.alone_train">0.000000</span>, the
# number that lesson 06 begins with.
#
# **Why is 0 silent?** Because zero is a *legal* number that means two things: "I want this off" and "I did not find
# it". The sum
# $\sum_i\lambda_i t_i$ cannot tell. An exception can only come from a place that knows what was meant, and there are
# two: where a name is looked up, and where a weight is set.

# %%
for attempt in ({"lam_cov": 0.0}, {"lam_gap": float("nan")}, {"lambda_cov": 1.0}):
    try:
        LossWeights(**attempt)
    except (ValueError, TypeError) as refusal:
        print(f"LossWeights({attempt}):\n    {type(refusal).__name__}: {refusal}")

# %% [markdown]
# ## Find and mend: a sum that refuses
#
# Weights come as `{"lam_cov": 1.0, …}`, terms as `{"cov": …, …}`. A term that nobody weighs is off; that is allowed. A
# weight that fits no term is a mistake of whoever wrote it, and they should hear of it.


# %% tags=["exercise"]
def total_loss(terms, weights):
    """Σ λ_i · term_i: {"cov": number, …}, {"lam_cov": weight, …} -> one number."""
    return sum(weights.get(f"lam_{name}", 0.0) * term for name, term in terms.items())


# %% tags=["solution"]
def total_loss(terms, weights):
    """Σ λ_i · term_i: {"cov": number, …}, {"lam_cov": weight, …} -> one number."""
    unknown = [name for name in weights if name.removeprefix("lam_") not in terms]
    if unknown:
        raise ValueError(f"weights must fit a term ({', '.join(terms)}), got {', '.join(unknown)}")
    return sum(weight * terms[name.removeprefix("lam_")] for name, weight in weights.items())


# %%
check("03.total_loss", total_loss)

# %% [markdown]
# ## Three kinds of zero
#
# A term can be zero for a good reason, for a bad one, or because you asked for it. Ask for its value *and* for its
# gradient, at weight 1:

# %% tags=["hide-input"]
gap, cross = (lab.pull_of(name, seed=seed) for name in ("lam_gap", "lam_cross"))
mystery = lab.pull_of("lam_cross", "swallowed_exception", seed=seed)
rows = [("gap", "right", gap), ("cross", "right", cross), ("cross", "a mystery run", mystery)]
plots.table(
    ["term", "run", "mean over 120 scenes", "length of its gradient"],
    [(term, run, f"{value:.4f}", f"{length:.4f}") for term, run, (value, length) in rows],
    "On an untrained network, each at weight 1.",
)

# %%
run = lab.trained(seed=seed, windows=4)
scenes = next(iter(run.scenes.micro_batches(0)))
values = run.losses(scenes).terms["gap"]
print(f"gap, after four windows, scene by scene: {(values == 0).sum().item()} of {len(values)} are exactly 0")

# %% tags=["hide-input"]
measure("03.mystery", mystery[1])

# %% [markdown]
# - **Switched off.** The weight is 0, the term is not computed, the ledger has no column for it. You asked for it.
# - **Satisfied.** `gap` is a hinge: a scene whose eigenvalues stand out far enough has nothing left to wish, and
#   counts 0. In *some* scenes.
# - **Broken.** Zero in every scene, and a gradient of <span data-claim="03.mystery">0.0</span>, from the first window
#   on. In the project this course retells, two terms threw an exception that an `except: continue` caught, and
#   contributed exactly zero.
#
# Which of the three is the mystery run's `cross`?

# %% tags=["exercise"]
silence = ...  # "switched off", "satisfied" or "broken"

# %% tags=["solution"]
silence = "broken"

# %%
check("03.silence", silence)

# %% [markdown]
# ## Where this happened to others
#
# `huggingface/transformers#44242`, reported in February 2026: Mixtral's configuration has a weight for the loss that
# balances its experts (`router_aux_loss_coef`), but the term was computed only where another switch
# (`output_router_logits`, off by default) was on. Who set the weight trained without the term, and nothing said so.
# Several mends were proposed and closed unmerged (`#44274`, `#44284`, `#44586`); LlamaFactory had flipped the switch
# for its users two years before (`hiyouga/LlamaFactory#3276`).
#
# ## In three lines
#
# - A weight says what a gradient is multiplied by. How hard a term pulls, and where, you must measure, and again when
#   the network has changed.
# - A lost weight does not look like an error; it looks like a smaller loss.
# - Zero is a legal number: refuse at the place that knows what was meant, by name.
#
# **Onward.** All this arithmetic was in single precision. What half precision loses, and what the loss scale saves:
# [04 · Mixed precision](04_mixed_precision.ipynb)
