# ---
# jupyter:
#   kernelspec:
#     display_name: Python 3
#     language: python
#     name: python3
# ---

# %% [markdown]
# # 08 · Training for real
#
# **Question.** The review promised an error of <span data-quoted="the review's table">0.187</span>. What would it take
# to keep that promise, and would it mean anything?
#
# **Whole course** 9 of 12 · 50 minutes · 02 and 06 help
#
# The review is the code review from lessons 00 and 06. You will keep its promise in seconds, and find out what that
# proves. Then you train for real, on *scenes* (training examples) that the network sees only once. You compare the
# network with methods that have decades of theory behind them. At the end, you find radio sources on a map. Afterwards
# you can
#
# - say what an overfit test shows, and what it does not show;
# - distinguish a network that needs more training from a network that needs to be changed;
# - compare an error with a baseline, and judge an estimate by what it is used for.

# %% tags=["parameters"]
profile = "cpu"
seed = 0

# %% [markdown]
# ## The promise
#
# The review's run was an *overfit test*. The network trains on 512 fixed scenes, again and again, and is tested on the
# same scenes. The error is the NMSE (lesson 02): 0 is perfect, and about 1 is a network that knows nothing. If the loop
# is correct and the network has enough parameters, it passes. So this is a good test of a loop.

# %%
# Loads PyTorch, which takes about 5 s.
from covlab.course import check, choose_device, choose_scenario, measure, outcome, predict

predict(
    "08.overfit",
    "A network memorizes 512 scenes until their error is far below the promise. "
    "On scenes that it has never seen, its error is …",
    ["about the same", "many times larger", "that of a network that knows nothing"],
)

# %%
predict(
    "08.wrong_answers",
    "Now every scene gets the label R of another scene. The network memorizes these wrong answers …",
    ["not at all", "much worse", "just as well"],
)

# %%
from covlab.course.experiments.training_for_real import TrainingForReal
from covlab.training.together import train_together

device = choose_device(profile)
scenario = choose_scenario(device)
real = TrainingForReal(scenario, device, seed)
memorizers = {
    "true answers": real.memorizer(real.scenes),
    "wrong answers": real.memorizer(real.with_answers_of_others()),
}
train_together(*memorizers.values())

# %% tags=["hide-input"]
# Shows what happened, and tabulates the errors
from covlab import plots

memory = {name: real.memorized_and_unseen(run) for name, run in memorizers.items()}
(memorized, held_out), (memorized_wrong, _) = memory.values()
outcome(
    "08.overfit",
    "many times larger"
    if 3 * memorized < held_out < 0.8
    else "about the same"
    if held_out < 3 * memorized
    else "that of a network that knows nothing",
    because="The first error measures memory. The second error measures what the network has understood.",
)
outcome(
    "08.wrong_answers",
    "just as well" if memorized_wrong < 2 * memorized else "much worse" if memorized_wrong < 0.187 else "not at all",
    because="The network has many more parameters than 512 answers need. It can store them, true or wrong.",
)
plots.table(
    ["30 epochs on 512 scenes with", "NMSE on these scenes", "NMSE on 512 unseen scenes"],
    [(name, f"{same:.4f}", f"{never:.3f}") for name, (same, never) in memory.items()],
    "The promise of 0.187 belongs to the first column. A network that knows nothing has about 1 in the second column.",
)
measure("08.memorized", memorized)
measure("08.memorized_held_out", held_out)
measure("08.memorized_wrong", memorized_wrong)

# %% [markdown]
# So the network keeps the promise. It reaches an error of <span data-claim="08.memorized">0.008 to 0.011</span>, and
# the review promised <span data-quoted="the review's table">0.187</span>. (Ranges in the text cover five seeds.) But
# with *wrong* answers the network passes the same test, with an error of
# <span data-claim="08.memorized_wrong">0.004 to 0.007</span>. An overfit test separates a loop that trains from a loop
# that does not. It shows nothing else.
#
# The error on unseen scenes is <span data-claim="08.memorized_held_out">0.29 to 0.33</span>. You have to measure it
# separately. covlab's reports always print it beside the first error.
#
# ## Three runs on fresh scenes
#
# From here on, the network sees each scene only once. A scene consists of several *snapshots* of what the antennas
# receive. Before each snapshot, the reflecting surface gets a different *code*, the phase shifts of its elements
# (lesson 01). Two networks make three runs:
#
# - The network of the reviewed pipeline. Its inputs are the snapshots y, the codes, and H, which combines the codes
#   with the channel. It applies convolutions to these inputs *separately*, and averages the results. We train it twice:
#   once with new random codes in every scene, and once with one fixed set of codes.
# - A network that multiplies each snapshot by its code, and then squares.

# %%
predict(
    "08.stuck",
    "With random codes, the reviewed pipeline's network ends with an error …",
    ["well below one half", "as large as if it ignored all snapshots", "larger than that"],
)

# %%
# about 45 s
from covlab.networks.model import BackProjectionNet, SnapshotConvNet

runs = {
    "convolutions, random codes": real.learner(SnapshotConvNet, windows=300),
    "convolutions, fixed codes": real.learner(
        SnapshotConvNet,
        windows=400,
        codebook="fixed",
    ),
    "product and square, random codes": real.learner(BackProjectionNet, windows=300),
}
train_together(*runs.values())

# %% tags=["hide-input"]
# Shows what happened, beside your prediction
constant = real.best_constant()
stuck, fixed, learned = (run.history[-1]["validation"] for run in runs.values())
outcome(
    "08.stuck",
    "well below one half"
    if stuck < 0.45
    else "as large as if it ignored all snapshots"
    if stuck < 1.05 * constant
    else "larger than that",
    because="It learned the mean covariance of all scenes, and nothing about a single scene.",
)
measure("08.constant", constant)
measure("08.stuck_over_constant", stuck / constant)
measure("08.fixed_codes", fixed)
measure("08.learned", learned)

# %% tags=["hide-input"]
# Draws the learning curves of the three runs
from covlab.plots.training import learning_curves

figure = learning_curves(runs)
figure.axes[0].axhline(constant, color="black", linewidth=1, linestyle=":")
figure.axes[0].set_ylim(top=1.05)
figure.axes[0].annotate(
    "best constant answer ", (1, constant), xycoords=("axes fraction", "data"), ha="right", va="bottom", fontsize=9
)
plots.show(
    figure,
    "Training and validation error over the epochs. The convolutional network with random codes lies on a dotted line, "
    "the best constant answer, from its first epoch on. With one fixed set of codes, its error begins to fall. The "
    "network that multiplies and squares starts far below both and continues to fall.",
)

# %% [markdown]
# The dotted line is the error of the best constant answer, which is the mean covariance of all scenes. This error is
# <span data-claim="08.constant">0.85 to 0.86</span>. With random codes the convolutional network ends at
# <span data-claim="08.stuck_over_constant">0.99 to 1.01</span>&nbsp;times that. With fixed codes its error begins to
# fall (<span data-claim="08.fixed_codes">0.76 to 0.82</span> so far). The network that multiplies and squares has
# reached <span data-claim="08.learned">0.18 to 0.21</span>, with the same loop.
#
# ## Find and fix: an estimate at the surface
#
# A snapshot is $y_l = G\,\mathrm{diag}(c_l)\,x_l + n_l$. Here $x_l$ is the wave at the surface, $c_l$ the code, $G$ the
# channel from the surface to the base station, and $n_l$ noise. Every entry of $c_l$ is a phase factor
# $e^{\mathrm{j}\psi}$. A matrix $B$ takes snapshots back through the channel.
#
# This function should estimate $x_l$. Its result has the correct shape, but its phases are random.

# %% tags=["exercise"]
import torch


def back_projection(y, codes, B):
    """Snapshots [L, M], codes [L, N], B [N, M] -> estimates of x_l at the surface [L, N], all complex."""
    return codes * (y @ B.T)


# %% tags=["solution"]
import torch


def back_projection(y, codes, B):
    """Snapshots [L, M], codes [L, N], B [N, M] -> estimates of x_l at the surface [L, N], all complex."""
    return codes.conj() * (y @ B.T)


# %%
check("08.back_projection", back_projection)

# %% [markdown]
# ## Why the convolutions learn nothing
#
# The codes are random. So $y_l$ alone does not show the phases of $x_l$. What you compute from $y$ and from $c$
# separately does not show them either. Only the *product* $c_l^* \cdot (B\,y_l)$ contains the phases of the sources.
# What the sources send is random, too, so the mean of this product is zero. You can find $R$ only in its *square*.
#
# The convolutional network computes neither the product nor the square. So it ends with the best constant answer. With
# one fixed set of codes, it can memorize their phases, so its error begins to fall.
#
# There is no bug in the loop, and the learning rate is fine. But *this network cannot express the answer*. More
# training would not help.
#
# ## The ladder
#
# Is the error of the network that multiplies and squares good? A number means nothing without a baseline. So we compare
# seven *estimators*, methods that estimate R, on the same 256 unseen scenes. All of them know the channel $G$.
#
# | estimator | what it does |
# |---|---|
# | scaled identity, mean covariance | give the same answer for every scene |
# | back-projected samples | takes the snapshots back to the surface, squares them, and averages; no training |
# | network, trained here | multiplies and squares: the last of the three runs above |
# | grid maximum likelihood | on a grid of positions, finds the powers that explain the snapshots best; no training |
# | network, shipped | comes with covlab, trained for minutes; searches a grid of positions in stages, then refines them off the grid |
# | positions given | knows where the sources are, and only estimates their powers: a limit, not a rival |

# %%
# about 4 s
judged = real.unseen[:256]
estimates = real.ladder(runs["product and square, random codes"].model, judged)
errors = {name: estimate.nmse(judged) for name, estimate in estimates.items()}

# %% tags=["hide-input"]
# Draws mean and median error of the seven estimators
from covlab.plots.estimator_scores import ladder_chart

plots.show(
    ladder_chart(
        {name: (error.mean().item(), error.median().item()) for name, error in errors.items()},
        {"promised, on memorized scenes": 0.187},
    ),
    "Bars of mean error on 256 unseen scenes, with the median as a diamond. The scaled identity is at the top, near "
    "0.9. The estimator that is given the positions is at the bottom, near 0.02. The network trained here lies near "
    "the dashed line of the promise. Grid maximum likelihood and the shipped network lie well to its left.",
)
mean = {name: error.mean().item() for name, error in errors.items()}
for claim, name in (
    ("identity", "scaled identity"),
    ("samples", "back-projected samples"),
    ("grid", "grid maximum likelihood"),
    ("shipped", "network, shipped"),
    ("genie", "positions given"),
):
    measure(f"08.{claim}", mean[name])

# %% [markdown]
# Read the bars from the top. The scaled identity, which knows nothing, has <span data-claim="08.identity">0.91</span>.
# The back-projected samples have <span data-claim="08.samples">0.60 to 0.63</span>, because sixteen snapshots of eight
# antennas are not much data.
#
# Maximum likelihood on a grid reaches <span data-claim="08.grid">0.10 to 0.11</span> without any training. That is the
# baseline. A network that beats only the bars above the baseline proves nothing. The network trained here does not even
# reach the baseline. The shipped network does better, with <span data-claim="08.shipped">0.045 to 0.060</span>. You
# cannot expect less than <span data-claim="08.genie">0.016 to 0.021</span>, the error with the positions given.
#
# ### No one can be below this line
#
# The positions are not given, so the true limit is higher. Sixteen noisy snapshots fit many different sources. The
# *Bayes estimate* knows exactly how scenes are drawn. It averages all sources that could have caused the snapshots,
# each weighted by its probability. No estimator that reads the same data has a lower mean error.
#
# `covlab bench limit` computes this limit by sampling, which takes minutes. So these are its published results, for
# other scenes than those above:
#
# <div data-quoted="benchmarks/results/limit.json">
#
# | SNR (dB) | limit | shipped network | gap |
# |---|---|---|---|
# | -5 to 0 | 0.184 ± 0.013 | 0.216 ± 0.023 | 0.030 ± 0.011 |
# | 0 to 5 | 0.053 ± 0.004 | 0.068 ± 0.009 | 0.010 ± 0.003 |
# | 5 to 10 | 0.024 ± 0.001 | 0.028 ± 0.003 | 0.003 ± 0.001 |
# | 10 to 15 | 0.011 ± 0.001 | 0.013 ± 0.002 | 0.001 ± 0.000 |
# | 15 to 20 | 0.009 ± 0.001 | 0.009 ± 0.002 | 0.000 ± 0.000 |
#
# </div>
#
# Numbers after ± are standard errors over the scenes. The limit is the error that the Bayes estimate expects to have.
# The gap is the network's error minus the error that the Bayes estimate really had on the same scenes.
#
# Most of the network's error is not its fault: the snapshots do not say more. The gap is largest at the lowest SNR,
# where the errors are largest, too. In every row but the last, the network is above the line. In the last row, these
# scenes can show no difference.
#
# In a terminal, `covlab bench estimators` prints a table of more estimators for all sizes, with confidence intervals
# and with the time that each one takes.
#
# ## Where are the sources?
#
# Often you want the positions of the sources, not the covariance itself. *MUSIC* is a method that finds them from a
# covariance $R$ and the number $K$ of sources. To understand it, you need two terms:
#
# - The *steering vector* of a position holds the phases with which a wave from there reaches the elements of the
#   surface.
# - The *noise subspace*: $K$ eigenvectors of $R$ belong to the sources. The other eigenvectors span the noise subspace.
#
# At the position of a source, the steering vector is at right angles to the noise subspace. So MUSIC tries many
# positions. It has a peak where the steering vector has only a small part in the noise subspace.
#
# ## Find and fix: a projector
#
# To measure that part, MUSIC needs the *projector* onto the noise subspace: the matrix that keeps the part of a vector
# that lies in the subspace, and removes the rest. With the projector of this function, MUSIC finds sources in the wrong
# positions.

# %% tags=["exercise"]
import torch


def noise_projector(R, sources):
    """Projector onto the noise subspace of R [N, N] with so many sources -> [N, N]."""
    vectors = torch.linalg.eigh(R).eigenvectors
    noise = vectors[:, sources:]
    return noise @ noise.mH


# %% tags=["solution"]
import torch


def noise_projector(R, sources):
    """Projector onto the noise subspace of R [N, N] with so many sources -> [N, N]."""
    vectors = torch.linalg.eigh(R).eigenvectors
    noise = vectors[:, : len(R) - sources]
    return noise @ noise.mH


# %%
check("08.noise_projector", noise_projector)

# %% [markdown]
# ## Five maps of one scene
#
# Now MUSIC runs on five covariances of one scene. We take the first scene with two sources and a signal-to-noise ratio
# (SNR) above 10 dB.

# %%
covariances = {"true R": judged.covariance()} | {
    name: estimates[name].covariance()
    for name in (
        "back-projected samples",
        "network, trained here",
        "grid maximum likelihood",
        "network, shipped",
    )
}
example = int(((judged.source_count == 2) & (judged.snr_db > 10)).nonzero()[0])
scene = judged[example : example + 1]
spectra = {name: real.music(R[example : example + 1], scene)[0].cpu() for name, R in covariances.items()}

# %% tags=["hide-input"]
# Draws the five maps
from covlab.plots.direction_spectra import direction_spectra

plots.show(
    direction_spectra(spectra, real.fine_grid, scene.to("cpu")),
    "Five maps of the MUSIC spectrum over azimuth and elevation, with a cross at each of the two sources. The true "
    "covariance gives two sharp peaks under the crosses. The back-projected samples give two broad hills on a high "
    "plateau. The better the estimate, the sharper the peaks, and the closer they are to the crosses.",
)

# %% tags=["hide-input"]
# Measures the direction errors on 256 scenes, and tabulates them
degrees = {name: real.direction_error(R, judged) for name, R in covariances.items()}
plots.table(
    ["MUSIC on", "NMSE of R, mean", "direction error, median (°)"],
    [(name, "0" if name == "true R" else f"{mean[name]:.3f}", f"{angle:.1f}") for name, angle in degrees.items()],
    "256 unseen scenes, the number of sources known. Even the true R has an error, because MUSIC searches on a grid.",
)
measure("08.direction_samples", degrees["back-projected samples"])
measure("08.direction_trained", degrees["network, trained here"])
measure("08.direction_shipped", degrees["network, shipped"])

# %% [markdown]
# A smaller error of $R$ does not always give a better map. Compare the second and the third row of the table. The
# network trained here has a third of the samples' error. But its directions are no better. They are wrong by
# <span data-claim="08.direction_trained">3.7 to 4.2</span>°, and the directions from the samples are wrong by
# <span data-claim="08.direction_samples">3.3 to 3.8</span>°. The network was trained for all of $R$, but MUSIC does not
# use most of it. The shipped network does not stay on a grid. Its directions are wrong by
# <span data-claim="08.direction_shipped">1.5 to 1.7</span>°.
#
# So judge an estimate by what it is used for.
#
# Try it yourself. Choose the sample covariance, and move one source toward the other source, which is at −30°. When
# does MUSIC show one peak for both? Then lower the SNR.

# %%
from covlab.widgets import SceneExplorer

explorer = SceneExplorer("student", seed)
explorer.show()

# %% [markdown]
# Here the two sources are 12 degrees apart. The dotted lines are the true directions:

# %% tags=["hide-input"]
# Draws the explorer with two sources 12 degrees apart
explorer.still_of(
    "Two sources 12 degrees apart, from 16 snapshots at 20 dB",
    {"azimuth": -18.0, "snr": 20.0, "R of": "sample covariance"},
)

# %% [markdown]
# ## Where this happened to others
#
# - **Memorizing.** Zhang and others showed that standard image networks fit *random labels* without error, as yours did
#   above (*Understanding deep learning requires rethinking generalization*, ICLR 2017).
# - **Overfit tests and baselines.** In Karpathy's *A Recipe for Training Neural Networks* (2019), overfitting is the
#   third step of every project. The second step is simple baselines to compare with. The reviewed pipeline had none.
#
# ## In three lines
#
# - An overfit test shows that a loop trains. A network passes it with wrong answers, too.
# - If a network ends with the best constant answer, it may be unable to express a better one. Look at what it computes
#   before you tune it.
# - A number means nothing without a baseline, on scenes that nobody has seen.
#
# **Next.** [09 · Tuning the weights](09_tuning_the_weights.ipynb) lets several processes search for better weights of
# the loss, and records where each weight came from.
