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
# **Question.** What does each weight of a loss do to the gradient? And why does nobody notice a weight of 0?
#
# **Whole course** 4 of 12 · 40 minutes · 02 helps
#
# Afterwards you can measure how hard each term of a loss pulls on the parameters. You can follow how this changes
# during training. And you can distinguish three kinds of zero in a log. (This lesson always runs on the CPU.)

# %% tags=["parameters", "unread"]
profile = "cpu"
seed = 0

# %%
# Loading PyTorch takes about 5 s.
from covlab.course import check, outcome, predict
from covlab.course.experiments import gradient_pulls as lab

# %% [markdown]
# ## Three terms
#
# The network should estimate a 16 × 16 matrix $R$. It computes a matrix $F$ with a few columns, and its estimate is
# $\hat R = FF^{\mathsf H} + \varepsilon I$. (In this lesson, a fifth of the estimate comes directly from the input, the
# snapshots.) The error of $\hat R$ would be enough as a loss. In practice, people add terms, because they know
# something about a good answer and want to help the network:
#
# $$L = \lambda_1 t_1 + \lambda_2 t_2 + \dots$$
#
# Each term $t_i$ has a weight $\lambda_i$. covlab's loss has nine terms. We start with three of them:
#
# | Weight | Default | The term is small if … |
# |---|---|---|
# | `lam_cov` | 1 | the estimate is near R; this is the main term, the error NMSE of lesson 02 |
# | `lam_cross` | 1/400 | the off-diagonal entries of the estimate are near those of R |
# | `lam_ortho` | 1/1000 | the columns of $F$ are at right angles to each other |
#
# `lam_ortho` is the smallest weight of the three. Each term adds its own gradient, times its weight, to the gradient of
# the loss. The length of this product is the *pull* of the term.

# %%
LENGTHS = ["a thousandth as hard", "a tenth as hard", "about as hard"]
predict("03.ortho", "In the first training step, compared with `lam_cov`'s term, `lam_ortho`'s term pulls …", LENGTHS)

# %% [markdown]
# We take an untrained network and 120 *scenes* (training examples). We compute each term, and its gradient with respect
# to all parameters. Then we train the network for 120 *windows* (one window is one optimizer step), and measure again
# from time to time.

# %%
# about 4 s
history = lab.terms_over_training(seed)
first, last = history[0], history[-1]
weighted = first.terms.weighted(lab.DEFAULTS)

# %% tags=["hide-input"]
# Shows the outcome, and a table of three terms
from covlab import plots
from covlab.course import measure
from covlab.plots import loss_terms as pictures

ratio = weighted.norms["lam_ortho"] / weighted.norms["lam_cov"]
outcome(
    "03.ortho",
    LENGTHS[0] if ratio < 0.01 else LENGTHS[1] if ratio < 0.4 else LENGTHS[2],
    because="A weight multiplies a gradient. It does not show how long that gradient is.",
)
names = list(lab.DEFAULTS)
with_main = dict(zip(names, first.terms.cosines[names.index("lam_cov")], strict=True))
plots.table(
    ["weight", "its value", "share of the loss", "pull, relative to lam_cov", "cosine with the gradient of lam_cov"],
    [
        (
            name,
            f"{lab.DEFAULTS[name]:g}",
            f"{weighted.loss_shares[name]:.2%}",
            f"{weighted.norms[name] / weighted.norms['lam_cov']:.3f}",
            f"{with_main[name] + 0.0:.2f}",
        )
        for name in ("lam_cov", "lam_cross", "lam_ortho")
    ],
    "An untrained network.",
)
measure("03.ortho_of_loss", 100 * weighted.loss_shares["lam_ortho"])
measure("03.ortho_pull", ratio)
measure("03.cosine_cross", with_main["lam_cross"])
measure("03.cosine_ortho", with_main["lam_ortho"])

# %% [markdown]
# Here are four questions about `lam_ortho` that sound alike, and their answers:
#
# | Question | Answer |
# |---|---|
# | How large is its weight? | a thousandth of the main weight |
# | What is its share of the loss? | <span data-claim="03.ortho_of_loss">0.05 to 0.08</span>&nbsp;percent, depending on the seed |
# | How hard does it pull? | <span data-claim="03.ortho_pull">0.8 to 1.1</span>&nbsp;times as hard as the main term |
# | In which direction does it pull? | a different one: the cosine between its gradient and that of the main term is only <span data-claim="03.cosine_ortho">−0.2 to 0.2</span> |
#
# The direction matters as much as the length. Look at `lam_cross`: the cosine of its gradient with the main one is
# <span data-claim="03.cosine_cross">1.00</span>. It pulls in the same direction, so a larger `lam_cross` does the same
# as a slightly larger `lam_cov`. No change of the weights can separate these two terms.
#
# **Why does `lam_ortho` pull so hard?** Its term scales the columns of $F$ to length 1 before it compares them, so it
# ignores their scale. In lesson 02, the gradient of an error that ignores the scale was proportional to *one over* the
# scale. The columns of an untrained network are short, so this gradient is long.
#
# If this is the reason, the pull should become weaker as the columns grow. Does it?

# %% tags=["hide-input"]
# Draws the pull of the terms during training
windows = [moment.window for moment in history]
during = [moment.terms.weighted(lab.DEFAULTS) for moment in history]
shown = ["lam_cov", "lam_ortho", "lam_K", "lam_peak_contrast", "lam_cov_pred", "lam_subspace_align", "lam_cross"]
plots.show(
    pictures.pulls_over_training(windows, {name: [each.norms[name] for each in during] for name in shown}),
    "Length of each term's weighted gradient over 120 windows. lam_cov and lam_ortho start alike. Within ten windows, "
    "lam_cov grows tenfold, and lam_ortho falls to a third. From then on, lam_ortho stays more than ten times lower.",
)
measure("03.column_growth", last.column / first.column)
measure("03.ortho_pull_late", during[-1].norms["lam_ortho"] / during[-1].norms["lam_cov"])

# %% [markdown]
# It does. Look at the two thick lines. After ten windows they are far apart, and after 120, `lam_ortho` pulls only
# <span data-claim="03.ortho_pull_late">0.02</span>&nbsp;times as hard as the main term. In the meantime the columns of
# $F$ have become <span data-claim="03.column_growth">9.5 to 11.5</span>&nbsp;times as long.
#
# The longer columns explain both lines. The pull of `lam_ortho` goes down, as lesson 02 predicts. The pull of `lam_cov`
# goes *up*: while $F$ is short, $FF^{\mathsf H} + \varepsilon I$ is mostly $\varepsilon I$, and the error hardly
# depends on $F$.
#
# **So a weight has no meaning by itself.** It only means something for one network at one moment. If you tune a weight
# by its effect on the first steps, you tune it for a network that will soon be different.

# %% [markdown]
# ## Find and fix: the pull of the whole loss
#
# You know the weights, and the gradient of each term. How long is the gradient of the whole loss? Somebody's answer is
# too large for almost every network.


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
# ## All nine terms
#
# Here are all nine. You know three of them already. (`lam_aux` is off by default.)

# %% tags=["hide-input"]
# Shows the nine weights and what their terms ask for
from covlab.widgets.loss_weights import ASKS

plots.table(
    ["weight", "default", "the term is small if …"],
    [(name, weight, ASKS[name]) for name, weight in lab.DEFAULTS.items()],
)

# %% [markdown]
# The explorer has a slider for each weight. The first panel shows each term's share of the loss (blue) and of the pull
# (orange), on a logarithmic axis. The numbers at the right edge are the pulls, λ‖g‖, where g is the gradient of the
# term. The second panel shows which gradients point the same way. The cosine is 1 for the same direction, 0 at right
# angles, and negative for terms that pull against each other.
#
# Take at least three weights, and do this with each one:
#
# 1. **Predict.** If you set the weight to 1 (`lam_cov`: to 10), what happens to the whole gradient? Will it become
#    longer? Will it turn? The second panel helps: if a term points the same way as the whole gradient, it makes the
#    whole gradient longer, and hardly turns it.
# 2. **Change** the weight, and read the text below the sliders. It says how much longer the whole gradient is now, and
#    how far it turned. The title of the first panel shows its length, and the last row of the second panel shows its
#    direction.
# 3. **Explain** in one sentence what the term now does. The text below the sliders says what the term asks for.
#
# Good weights to start with are `lam_cross`, `lam_ortho` and `lam_aux`. Then try to give every term the same pull,
# click on **Train**, and compare the held-out error. This error is the NMSE on new scenes. The weights are not part of
# its formula.

# %%
from covlab.widgets import LossWeightsExplorer

explorer = LossWeightsExplorer(seed)
explorer.show()

# %% [markdown]
# For example, set `lam_ortho` to 1. This term does not use the true R at all. But now it pulls much harder than the
# others, and the whole gradient points in its direction:

# %% tags=["hide-input"]
# Draws the shares with lam_ortho at 1
explorer.still_of("lam_ortho at 1", {"lam_ortho": 1.0})

# %% [markdown]
# ## Why does nobody notice a 0?
#
# A program reads its weights by name. In one line it asks for `lambda_cov`, but the settings call it `lam_cov`:
# `settings.get("lambda_cov", 0.0)`. So the main weight is now 0. Everything else is correct, and the other terms keep
# their weights.

# %%
STAYS, ABOVE = "stays where it starts", "falls, and stays above that of the correct run"
BELOW = "falls, and stays below that of the correct run"
predict("03.lost", "The main weight is 0, and nobody knows. The loss in the log …", [STAYS, ABOVE, BELOW])

# %%
# about 5 s
runs = {"correct": lab.trained(seed=seed), "main weight 0": lab.trained("main_weight_zero", seed=seed)}

# %% tags=["hide-input"]
# Shows the outcome, and draws the log and the held-out error
correct, lost = (run.history for run in runs.values())
below = all(without["train"] < whole["train"] for without, whole in zip(lost, correct, strict=True))
falls = lost[-1]["train"] < 0.9 * lost[0]["train"]
outcome(
    "03.lost",
    STAYS if not falls else BELOW if below else ABOVE,
    because="The largest term is missing from the sum, so the sum is smaller. It still falls, because the other terms "
    "ask for something similar.",
)
plots.show(
    pictures.logged_and_held_out(runs),
    "Left, the loss as logged over 30 epochs. Both runs fall, and the run without its main term is always far below "
    "the correct one. Right, the held-out NMSE. Both fall, and the run without its main term stays a little above.",
)
measure("03.lost_loss", lost[-1]["train"] / correct[-1]["train"])
measure("03.lost_error", lost[-1]["validation"] / correct[-1]["validation"])

# %% [markdown]
# In the log, the broken run looks *better*: its loss is <span data-claim="03.lost_loss">0.2</span>&nbsp;times that of
# the correct run. But its error on new scenes is <span data-claim="03.lost_error">1.05 to 1.2</span>&nbsp;times as
# large. You would suspect the network, not a weight.
#
# The log shows the mistake only if all other terms are off:

# %% tags=["hide-input"]
# Trains with the main weight lost and no other term
alone = lab.trained("main_weight_zero", seed=seed, weights={"lam_cov": 1.0}, windows=20)
for row in alone.history[:3]:
    print(f"train {row['train']:.6f}   val {row['validation']:.6f}")
measure("03.alone_train", alone.history[-1]["train"])

# %% [markdown]
# The loss in the log is <span data-claim="03.alone_train">0.000000</span>, as in the log of lesson 00.
#
# **Why is there no error message?** Zero is a *legal* weight, and it has two meanings: "I want this term off" and "I
# did not find this weight". The sum of the terms cannot distinguish them. Two lines in a program can: the line that
# looks up a name, and the line that sets a weight. covlab checks both the name and the value where a weight is set, and
# refuses what it cannot use:

# %%
from covlab.training.loss import LossWeights

for attempt in ({"lam_cov": 0.0}, {"lam_gap": float("nan")}, {"lambda_cov": 1.0}):
    try:
        LossWeights(**attempt)
    except (ValueError, TypeError) as refusal:
        print(f"LossWeights({attempt}):\n    {type(refusal).__name__}: {refusal}")

# %% [markdown]
# ## Find and fix: the total loss
#
# This function adds up the terms. The terms come as `{"cov": …, …}`, and the weights come as `{"lam_cov": 1.0, …}`. The
# result is correct as long as nobody mistypes a name.


# %% tags=["exercise"]
def total_loss(terms, weights):
    """Σ λ_i · term_i: {"cov": number, …}, {"lam_cov": weight, …} -> one number.

    A term without a weight is off. A weight without a term: ValueError or KeyError, with the name of the weight.
    """
    return sum(weights.get(f"lam_{name}", 0.0) * term for name, term in terms.items())


# %% tags=["solution"]
def total_loss(terms, weights):
    """Σ λ_i · term_i: {"cov": number, …}, {"lam_cov": weight, …} -> one number.

    A term without a weight is off. A weight without a term: ValueError or KeyError, with the name of the weight.
    """
    unknown = [name for name in weights if name.removeprefix("lam_") not in terms]
    if unknown:
        raise ValueError(f"weights must fit a term ({', '.join(terms)}), got {', '.join(unknown)}")
    return sum(weight * terms[name.removeprefix("lam_")] for name, weight in weights.items())


# %%
check("03.total_loss", total_loss)

# %% [markdown]
# ## Three kinds of zero
#
# The log of a run can show a term of zero for three reasons:
#
# - **Switched off.** The weight is 0. covlab does not compute such a term. So the *ledger*, the run's log of every
#   step, has no column for it.
# - **Satisfied.** Some terms have a limit. `lam_gap` asks that the eigenvalues of the sources are at least a certain
#   amount above the others. A scene that is past the limit counts as exactly 0. Other scenes count as more than 0.
# - **Broken.** The code of the term fails, or returns a constant.
#
# To distinguish them, look at a term's values scene by scene *and* at its gradient. First, here is `gap` in a correct
# run:

# %% tags=["hide-input"]
# Counts the scenes in which the term gap is 0
run = lab.trained(seed=seed, windows=4)
values = run.losses(next(iter(run.scenes.micro_batches(0)))).terms["gap"]
print(f"gap, after four windows: exactly 0 in {(values == 0).sum().item()} of {len(values)} scenes")

# %% [markdown]
# Now compare three terms: two of correct runs, and one of a mystery run. The network is untrained, and each weight is
# 1:

# %% tags=["hide-input"]
# Shows three terms and the lengths of their gradients
gap, cross = (lab.pull_of(name, seed=seed) for name in ("lam_gap", "lam_cross"))
mystery = lab.pull_of("lam_cross", "swallowed_exception", seed=seed)
rows = [("gap", "correct", gap), ("cross", "correct", cross), ("cross", "mystery run", mystery)]
plots.table(
    ["term", "run", "mean over 120 scenes", "length of its gradient"],
    [(term, of, f"{value:.4f}", f"{length:.4f}") for term, of, (value, length) in rows],
    "An untrained network, each term with weight 1.",
)
measure("03.mystery", mystery[1])

# %% [markdown]
# Which of the three kinds is the `cross` of the mystery run?

# %% tags=["exercise"]
silence = ...  # "switched off", "satisfied" or "broken"

# %% tags=["solution"]
silence = "broken"

# %%
check("03.silence", silence)

# %% [markdown]
# ## Where this happened to others
#
# - **The case of this course** (lesson 06): two terms of the loss raised an exception, and the code around them was
#   `except: continue`. Both contributed exactly <span data-claim="03.mystery">0.0</span> to the loss and to the
#   gradient.
# - **Mixtral in transformers.** Mixtral is a language model with several subnetworks, called experts. Its configuration
#   has a weight for the loss term that balances the experts (`router_aux_loss_coef`). But the code computed the term
#   only if another switch was on (`output_router_logits`, off by default). People who set the weight trained without
#   the term, and nothing told them (`huggingface/transformers#44242`, February 2026). Several fixes were proposed and
#   closed without a merge (`#44274`, `#44284`, `#44586`). The tool LlamaFactory had turned the switch on for its users
#   two years before (`hiyouga/LlamaFactory#3276`).
#
# ## In three lines
#
# - A weight multiplies a gradient. Measure how hard a term pulls and in which direction, and measure again when the
#   network has changed.
# - A lost weight does not look like an error. It looks like a smaller loss.
# - Zero is a legal number. Check weights by name, on the line where you still know what was meant.
#
# **Next.** All of this was computed in single precision. What does half precision lose, and what does the loss scale
# save? [04 · Mixed precision](04_mixed_precision.ipynb)
