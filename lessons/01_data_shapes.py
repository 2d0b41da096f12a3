# ---
# jupyter:
#   kernelspec:
#     display_name: Python 3
#     language: python
#     name: python3
# ---

# %% [markdown]
# # 01 · Data and shapes
#
# **Question.** What breaks if one axis of the data is swapped, and what notices it?
#
# **Whole course** 2 of 12 · 45 minutes · needs 00
#
# Afterwards you can say what each axis of the data means. You can swap two axes so that every shape check passes. You
# can name a familiar test that does not notice the swap, and you can write a check that does.

# %% tags=["parameters"]
profile = "cpu"
seed = 0

# %%
# Loading PyTorch takes about 5 s.
from covlab.course import check, choose_device, outcome, predict
from covlab.course.experiments import swapped_axes as lab

device = choose_device(profile)
simulator, held_out = lab.drawn(1024, seed, device)

# %% [markdown]
# ## From a source to an antenna
#
# From here on, the course uses simulated radio data. This picture is all the radio you need:

# %% tags=["hide-input"]
# Draws the path of a wave from the sources to the antennas
from covlab import plots
from covlab.course import measure
from covlab.networks.model import check_contract
from covlab.plots import scenes as pictures
from covlab.plots.training import memorized_and_held_out
from covlab.scenes.scenario import preset
from covlab.training.loss import nmse

plots.show(
    pictures.way_of_a_wave(),
    "Two sources at the top send s. Arrows lead from them down to a surface of 4 by 4 elements, the RIS, where the "
    "waves x arrive. Another arrow leads along the channel G down to a base station, whose 8 antennas receive y. The "
    "code c sets the elements.",
)

# %% [markdown]
# 1. One or two **sources** send radio waves.
# 2. The waves reach a **surface** of 16 small elements, called a *reconfigurable intelligent surface* (RIS). Each
#    element reflects its wave. It can delay the wave a little, and we choose the delay.
# 3. A **base station** with 8 antennas receives the reflected waves. The path from the elements to the antennas never
#    changes. A fixed matrix describes it, the *channel* G.
#
# All numbers are complex. The size of a number is the strength of a wave. Its angle, the *phase*, shows where in its
# cycle the wave is. Delaying a wave shifts its phase.
#
# The 16 phase shifts, one for each element, are a *code*. What the antennas receive with one code is a *snapshot*.
# There are 16 snapshots, each with a different code. One training example is a *scene*: the sources, their positions
# and powers, and the 16 snapshots.
#
# ## What the network estimates
#
# Imagine a whistle and two microphones. Both record the same tone, and one of them hears it a little later. Multiply
# the two recordings and average the product over time. The average shows how loud the tone is, and how far the second
# recording lags behind. This lag depends on the direction of the whistle. The average is a *covariance*.
#
# Do the same for every pair of the 16 elements. The result is a 16 × 16 matrix, the *spatial covariance* **R**. Each
# diagonal entry pairs an element with itself, so it is the power at that element. The sum of the diagonal is the
# *trace*. Here R is always scaled so that its trace is 16. If you swap the two elements of a pair, the lag changes
# sign, so R[n, n′] and R[n′, n] are complex conjugates. A matrix with this property is called *Hermitian*.
#
# The elements only reflect. They record nothing, so you can't measure R. The network has to estimate it from what the
# antennas receive.
#
# In formulas, for snapshot $l$:
#
# $$y_l = G \, \mathrm{diag}(c_l) \, x_l + n_l, \qquad x_l = A s_l, \qquad R = E[x_l x_l^H] = A P A^H$$
#
# | Symbol | Meaning |
# |---|---|
# | $s_l$, $P$ | what the sources send; their powers, on the diagonal of $P$ |
# | $A$ | one column for each source, its *steering vector*: the phases with which its wave reaches the elements |
# | $x_l$ | the waves at the elements |
# | $c_l$ | the code |
# | $y_l$, $n_l$ | what the antennas receive, and the noise in it |
# | $E[\cdot]$, $\cdot^H$ | the mean over everything that the sources might send; transposed and conjugated |
# | M, N, L, K | the numbers of antennas, elements, snapshots and sources |
#
# If you read elsewhere, be careful: many authors write N for their sensors and M for their sources.
#
# Here is one scene from above:

# %% tags=["hide-input"]
# Draws the positions in one scene
two_sources = int((held_out.source_count == 2).nonzero()[0])
plots.show(
    pictures.scene_from_above(simulator, held_out.to("cpu"), two_sources),
    "The scene from above. The RIS is at the origin. The base station is four meters in front of it and three meters "
    "to the side. In front of the RIS is a sector of 120 degrees, in which sources may be up to ten meters away. Two "
    "sources are in it.",
)

# %% [markdown]
# ## The tensors
#
# The network may read four tensors and nothing else. covlab calls them and their axes the *contract*. Each complex
# number in them is a pair of real numbers, with the real part first.

# %% tags=["hide-input"]
# Shows the tensors of the data, as a table and as pictures
plots.table(
    ["tensor", "axes", "shape here", "what it holds"],
    [
        ("y", "[B, L, M, 2]", str(list(held_out.y.shape)), "what antenna m received in snapshot l, with noise"),
        (
            "H",
            "[B, L, M, 2]",
            str(list(held_out.H.shape)),
            "G c_l: what antenna m would receive if the same wave reached every element",
        ),
        (
            "codes",
            "[B, L, N, 2]",
            str(list(held_out.codes.shape)),
            "c_l: how element n shifted the phase in snapshot l",
        ),
        (
            "snr_db",
            "[B]",
            str(list(held_out.snr_db.shape)),
            "signal-to-noise ratio at an antenna: signal power over noise power, in decibels (10 dB is a factor of ten)",
        ),
        ("R (label)", "[B, N, N]", str(list(held_out.covariance().shape)), "complex; Hermitian; trace N"),
    ],
    "B scenes, M = 8 antennas, N = 16 elements, L = 16 snapshots. The last axis of 2: real part, imaginary part.",
)
plots.show(
    pictures.contract_tensors(held_out.to("cpu"), two_sources),
    "Four images of this scene. The first two show the size of y and of H, for 16 snapshots and 8 antennas. The third "
    "shows the phase of the codes, for 16 snapshots and 16 elements. It looks like noise. The last shows the size of "
    "R, for 16 by 16 elements. It has stripes.",
)

# %% [markdown]
# Now move a source, and watch the first panel. It shows |R|, the size of each entry. An entry is large where both
# sources have the same lag between the two elements, so that their waves add up.
#
# Then move the source to φ = −30° and r = 3 m, where the other source is. Now each pair has only one lag, and |R| is 1
# everywhere.
#
# You can ignore the other two panels. (Their peaks show where a classical method, MUSIC, finds the sources in R. The
# dashed curve assumes that the source is so far away that its waves arrive flat. Close to the surface, in the *near
# field*, the waves arrive curved, and the assumption fails. Bring the source near, and the dashed peak sinks.)

# %%
from covlab.widgets import SceneExplorer

explorer = SceneExplorer("student", seed)
explorer.show()

# %% tags=["hide-input"]
# Draws R for two sources in the same position
explorer.still_of("Both sources in the same position", {"azimuth": -30.0, "range": 3.0})

# %% [markdown]
# Look at the shapes in the table again. There are 8 antennas, but **16 elements and 16 snapshots**. So the codes of a
# scene are a square, and its shape does not show which axis is which.
#
# ## A swap, and a familiar test
#
# Somebody writes a loader, the code that reads the data from files. It swaps the two axes of the codes:


# %%
from dataclasses import replace


def swapped(batch):
    """The same scenes, with codes [B, n, l] in place of [B, l, n]."""
    return replace(batch, codes=batch.codes.transpose(1, 2).contiguous())


def unchanged(batch):
    return batch


# %% [markdown]
# Then they run the test that careful people run first, an *overfit test*: can the network memorize 512 fixed scenes?

# %%
STOPS, NOTHING = "stops with a shape error", "does not learn: its error stays near 1"
WORSE = "memorizes them, but clearly worse than with the correct codes"
AS_WELL = "memorizes them as well as with the correct codes, or better"
predict("01.overfit_test", "With the axes of the codes swapped, the network …", [STOPS, NOTHING, WORSE, AS_WELL])

# %% [markdown]
# We train two networks on the same 512 scenes, from the same initial parameters, for 30 epochs. Only the codes differ.
# Then we test each network on 1024 scenes that it has never seen. The network that was trained with swapped codes gets
# swapped codes again.

# %%
# about 10 s
runs = lab.memorize({"correct codes": unchanged, "swapped codes": swapped}, seed, device)
others = {"correct codes": held_out, "swapped codes": swapped(held_out)}
scores = {
    name: {
        "on the 512 memorized scenes": run.history[-1]["validation"],
        "on 1024 other scenes": lab.score(run, others[name]),
    }
    for name, run in runs.items()
}

# %% tags=["hide-input"]
# Shows what came out, and draws both errors of both networks
correct, wrong = (list(each.values()) for each in scores.values())
seen = AS_WELL if wrong[0] <= 1.1 * correct[0] else NOTHING if wrong[0] > 0.8 else WORSE
outcome(
    "01.overfit_test",
    seen,
    because="To memorize scenes, the network only has to tell them apart. The codes of a scene never change in this "
    "test, so scrambled codes identify the scene just as well.",
)
plots.show(
    memorized_and_held_out(scores),
    "Two rows of two dots on a logarithmic axis. With correct codes the error is about 0.01 on memorized scenes and "
    "about 0.3 on others. With swapped codes it is even lower on memorized scenes. On others it is above 1, which is "
    "worse than a network that knows nothing.",
)
measure("01.memorized_right", correct[0])
measure("01.memorized_swapped", wrong[0])
measure("01.held_out_right", correct[1])
measure("01.held_out_swapped", wrong[1])

# %% [markdown]
# The error is the *NMSE*, the normalized mean squared error of R. It is 0 for a perfect estimate, and about 1 for a
# network that always gives the same answer.
#
# Nothing raised an exception, and both networks pass the overfit test. The error on the memorized scenes is
# <span data-claim="01.memorized_swapped">0.005</span> with swapped codes and
# <span data-claim="01.memorized_right">0.008 to 0.011</span> with correct ones, depending on the seed. Only scenes that
# the networks have never seen show the difference: an error of <span data-claim="01.held_out_right">0.3</span> with
# correct codes, and of <span data-claim="01.held_out_swapped">1.1</span> with swapped ones.
#
# **Why.** The network first takes each snapshot back through G, from the antennas to the elements. Then it undoes what
# the elements did: it multiplies by the conjugate of the code. Then it averages over the snapshots. With a wrong code,
# it undoes shifts that never happened. The phases become random, and they cancel in the average. But only the phases
# show the directions of the sources.
#
# There was no error message, because two axes happened to have the same length. **At another size**, with different
# numbers of elements and snapshots, the same swap raises an error at once:

# %%
larger_simulator, larger = lab.drawn(2, seed, device, "near_field")
try:
    swapped(larger)
except ValueError as error:
    print("ValueError:", error)

# %% [markdown]
# So here is a cheap habit: **test with sizes that are all different.** It turns a silent swap into an error message.
#
# ## Find and fix: the label
#
# Here are two more mistakes that keep every shape correct. In the first, somebody computes R from the steering vectors
# and the powers. The result is Hermitian, and its trace and its eigenvalues are correct. But it is not R.

# %% tags=["exercise"]
import torch


def covariance(steering, power):
    """R = A P A^H from A = steering [N, K], complex, and the sources' powers [K] -> [N, N]."""
    return (steering.conj() * power) @ steering.mT


# %% tags=["solution"]
import torch


def covariance(steering, power):
    """R = A P A^H from A = steering [N, K], complex, and the sources' powers [K] -> [N, N]."""
    return (steering * power) @ steering.mH


# %%
check("01.covariance", covariance)

# %% [markdown]
# ## Find and fix: the loader
#
# The receiver's files hold complex numbers, with the antennas before the snapshots: [B, M, L]. The network needs pairs
# of real numbers, with the snapshots before the antennas. This loader returns the correct shape, but wrong data.

# %% tags=["exercise"]
import torch


def as_contract(received):
    """What was received, complex [B, M, L] -> y, real pairs [B, L, M, 2]."""
    scenes, antennas, snapshots = received.shape
    return torch.view_as_real(received).reshape(scenes, snapshots, antennas, 2)


# %% tags=["solution"]
import torch


def as_contract(received):
    """What was received, complex [B, M, L] -> y, real pairs [B, L, M, 2]."""
    return torch.view_as_real(received).transpose(1, 2)


# %%
check("01.as_contract", as_contract)

# %% [markdown]
# ## A law finds what a shape check misses
#
# A shape shows how long an axis is. What the axis *means* is in the equations of the data, and you can test an
# equation. We use two laws, equations that hold for correct data:
#
# 1. $H_l = G c_l$. So $\|H - G c\| / \|H\|$ is zero, up to rounding.
# 2. The second law is about the size of the received numbers. The equations predict the covariance of $y_l$:
#    $C_l = G\,\mathrm{diag}(c_l)\, R \,\mathrm{diag}(c_l)^H G^H + \sigma^2 I$, where $I$ is the identity matrix and the
#    noise power $\sigma^2$ follows from snr_db. Divide $y_l$ by the size that $C_l$ predicts, in every direction, and
#    take the mean square. This *whitened power*, $y_l^H C_l^{-1} y_l / M$, is 1 on average. It tests y, codes, G, R and
#    snr_db together.
#
# Neither law needs a network. Here are ten mistakes in the inputs. Each of them keeps every shape. Further down, we add
# an eleventh: the label R, transposed.


# %%
def rows_for_columns(tensor):
    """Number the elements of the 4 × 4 surface column by column in place of row by row."""
    return tensor.unflatten(2, (4, 4)).transpose(2, 3).flatten(2, 3)


mistakes = {
    "none": unchanged,
    "codes: snapshots swapped with elements": swapped,
    "codes: rows of the surface swapped with columns": lambda b: replace(b, codes=rows_for_columns(b.codes)),
    "codes: imaginary part first": lambda b: replace(b, codes=b.codes.flip(-1)),
    "y: imaginary part first": lambda b: replace(b, y=b.y.flip(-1)),
    "y: stored [M, L], reshaped to [L, M]": lambda b: replace(b, y=b.y.transpose(1, 2).reshape(b.y.shape)),
    "y: antennas in reverse order": lambda b: replace(b, y=b.y.flip(2)),
    "y: one snapshot late": lambda b: replace(b, y=b.y.roll(1, 1)),
    "y: of the next scene": lambda b: replace(b, y=b.y.roll(1, 0)),
    "H: of the next scene": lambda b: replace(b, H=b.H.roll(1, 0)),
    "snr_db: of the next scene": lambda b: replace(b, snr_db=b.snr_db.roll(1, 0)),
}

# %% [markdown]
# We run four tests on each mistake: a shape check, both laws, and the network that was trained on correct data.

# %%
# about 4 s
trained, G = runs["correct codes"], simulator.G
residual, power, error = {}, {}, {}
for name, mistake in mistakes.items():
    spoilt = mistake(held_out)
    residual[name] = lab.channel_residual(spoilt, G)
    power[name] = lab.whitened_power(spoilt, G)
    error[name] = lab.score(trained, spoilt)

# %% tags=["hide-input"]
# Adds the transposed label, and shows the results as a table
for mistake in mistakes.values():
    spoilt = mistake(held_out)
    check_contract(preset("student"), spoilt.y, spoilt.H, spoilt.codes, spoilt.snr_db)  # raises if a shape is wrong
transposed, name = held_out.covariance().mT, "R (label): transposed"
with torch.no_grad():
    estimate = trained.model(held_out.y, held_out.H, held_out.codes, held_out.snr_db).covariance()
residual[name], power[name] = residual["none"], lab.whitened_power(held_out, G, transposed)
error[name] = nmse(estimate, transposed).mean().item()
plots.table(
    ["mistake", "shape check", "law 1: ‖H − G c‖ / ‖H‖", "law 2: whitened power", "error of the trained network"],
    [(name, "passes", f"{residual[name]:.6f}", f"{power[name]:.2f}", f"{error[name]:.2f}") for name in power],
    "Correct data: 0, 1, and an error as low as possible.",
)
measure("01.whitened_right", power["none"])
measure("01.whitened_least_wrong", min(power[name] for name in power if name.startswith(("codes", "y", "s", "R"))))

# %% [markdown]
# Read the table column by column.
#
# - **The shape check** never notices anything.
# - **Law 1** notices every mistake in the codes and in H.
# - **Law 2** gives <span data-claim="01.whitened_right">1.00</span> for correct data. It notices every mistake in y,
#   codes, snr_db and the label. For these mistakes, even the smallest value is
#   <span data-claim="01.whitened_least_wrong">6.5 to 9</span>, depending on the seed.
# - **The trained network** hardly notices if H or snr_db belongs to another scene. This network does not read H at all,
#   because it knows G, and it hardly uses snr_db. **The error of a network cannot test what the network does not use.**
#
# ## Find and fix: the check
#
# This check is supposed to find mistakes in a loader, but it has never complained. We try it on correct and on damaged
# codes. There are as many snapshots as elements.

# %% tags=["exercise"]
import torch


def codes_fit(codes, H, G):
    """Do codes [B, L, N, 2] belong to H [B, L, M, 2], by the channel G [M, N], complex? -> True or False."""
    antennas, elements = G.shape
    return codes.shape[2] == elements and H.shape[2] == antennas and codes.shape[:2] == H.shape[:2]


# %% tags=["solution"]
import torch


def codes_fit(codes, H, G):
    """Do codes [B, L, N, 2] belong to H [B, L, M, 2], by the channel G [M, N], complex? -> True or False."""
    expected = torch.view_as_complex(codes) @ G.T
    return torch.allclose(torch.view_as_complex(H), expected, rtol=1e-4, atol=1e-4)


# %%
check("01.codes_fit", codes_fit)

# %% [markdown]
# ## Where this happened to others
#
# - **Informer** is a network for long time series. Its paper won an award at AAAI 2021. Its attention turned [B, L, H,
#   D] into [B, H, L, D], where L is time and H counts the heads. It used `view`, which keeps the order in memory, and
#   so it mixed heads and time. The shapes agreed. A reader asked why it did not use `permute`, which swaps axes. The
#   authors answered that this was an error in the current branch, and that they would fix it
#   (`zhouhaoyi/Informer2020#59`, March 2021, closed).
# - A user of PyTorch reported that the documentation of `view` invites this mistake. The maintainers offered to add a
#   warning example (`pytorch/pytorch#16560`, January 2019, closed).
# - **The case of this course** (lesson 06): a function in one loss term returned the *conjugate* of a steering vector.
#   Shape, type and length were correct. But the vector's overlap with the correct one was
#   <span data-quoted="the case file">0.037</span> instead of 1.
#
# ## In three lines
#
# - A shape is the length of an axis, not its meaning. Equal lengths hide a swap, so test with all sizes different.
# - An overfit test only shows that a network can memorize. Scrambled data is as easy to memorize as correct data.
# - Write down one equation that ties the tensors together, and test the data with it before you train.
#
# **Next.** The loss scales estimates and labels to the same trace before it compares them. What do you gain, and what
# does it cost? [02 · What scale invariance buys, and what it costs](02_nmse_trace_normalization.ipynb)
