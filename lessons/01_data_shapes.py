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
# **Question.** What are y, H, codes, snr_db and R, and what would break if one axis were swapped?
#
# You will be able to say what each axis of the data means, to swap one so that every shape check passes, to see which
# familiar test does not notice, and to write a check that does. About 45 minutes to work through; half a minute to run
# on two cores. It needs nothing but lesson 00.

# %% tags=["parameters"]
profile = "cpu"
seed = 0

# %% [markdown]
# ## One scene
#
# Up to K sources send radio waves. A *reconfigurable intelligent surface* (RIS), a panel of N small reflecting
# elements, passes them on to a base station (BS) with M antennas, by a fixed channel G. Each element shifts the phase
# of what it reflects, and the shifts are set anew for each of L *snapshots*: one column of numbers a snapshot,
# the *code* $c_l$.
#
# $$y_l = G \, \mathrm{diag}(c_l) \, x_l + n_l, \qquad x_l = A s_l, \qquad R = E[x_l x_l^H] = A P A^H$$
#
# Column k of A is the *steering vector* of source k: the phases with which its wave reaches the N elements. P holds the
# sources' powers. R is the spatial covariance at the RIS. Nobody measures it; it is what the network is to estimate
# from a few noisy $y_l$.
#
# Beware when you read elsewhere: many authors call the *sensors* N and the *sources* M. Here M and N are antennas and
# elements, L snapshots, K sources, always.

# %%
# about 5 s, most of it to load PyTorch
from dataclasses import replace

import torch  # after covlab, which tells it how threads should wait

from covlab import plots
from covlab.course import check, choose_device, measure, outcome, predict, reference_trainer
from covlab.networks.model import check_contract
from covlab.plots.scenes import contract_tensors, scene_from_above
from covlab.plots.training import memorized_and_held_out
from covlab.scenes.consistency import channel_residual, whitened_power
from covlab.scenes.scenario import preset
from covlab.scenes.simulator import Simulator, scene_generator
from covlab.scenes.streams import FixedScenes
from covlab.training.loss import nmse
from covlab.training.together import train_together

device = choose_device(profile)
student = preset("student")
simulator = Simulator(student, device)
held_out = simulator.draw(1024, scene_generator(seed, "lesson 01", device=device))
two_sources = int((held_out.source_count == 2).nonzero()[0])

# %% tags=["hide-input"]
plots.show(
    scene_from_above(simulator, held_out.to("cpu"), two_sources),
    "The site from above: the RIS at the origin, the base station four metres before it and three to the side, a "
    "sector of 120 degrees before the RIS in which sources may stand up to ten metres away, and two sources of one "
    "scene in it.",
)

# %% [markdown]
# ## The contract
#
# A network may read four tensors and nothing else. Complex numbers stand at this border as pairs, real part first:

# %% tags=["hide-input"]
plots.table(
    ["tensor", "axes", "shape here", "what it holds"],
    [
        ("y", "[B, L, M, 2]", str(list(held_out.y.shape)), "received at antenna m in snapshot l, with noise"),
        (
            "H",
            "[B, L, M, 2]",
            str(list(held_out.H.shape)),
            "G c_l: what antenna m would receive if every element were lit alike",
        ),
        (
            "codes",
            "[B, L, N, 2]",
            str(list(held_out.codes.shape)),
            "c_l: what element n did to the phase in snapshot l",
        ),
        ("snr_db", "[B]", str(list(held_out.snr_db.shape)), "signal over noise at an antenna, in decibels"),
        ("R (label)", "[B, N, N]", str(list(held_out.covariance().shape)), "complex; Hermitian; trace N"),
    ],
    "B scenes, M = 8 antennas, N = 16 elements, L = 16 snapshots. The last axis of 2: real part, imaginary part.",
)
plots.show(
    contract_tensors(held_out.to("cpu"), two_sources),
    "Four images of this scene: the size of y and of H over 16 snapshots and 8 antennas, the phase of the codes over "
    "16 snapshots and 16 elements, which looks like noise, and the size of R over 16 by 16 elements, in stripes.",
)

# %% [markdown]
# **Move a source** and watch R. It is bright where the waves of both sources agree on the phase between two elements.
# Move it onto the other source, to φ = −30° and r = 3 m: now there is one wave, nobody disagrees, and R is 1
# everywhere.
#
# (The other two panels are a first look at lesson 08: where a classical method, MUSIC, finds the sources from R. It may
# take waves for
# *spherical*, as they are, or for *plane*, as they look from far away: bring the source near, and the dashed peak
# sinks.)

# %%
from covlab.widgets import SceneExplorer

explorer = SceneExplorer("student", seed)
explorer.show()

# %% tags=["hide-input"]
explorer.still_of("Both sources in one place", {"azimuth": -30.0, "range": 3.0})

# %% [markdown]
# Look at the shapes once more. M is 8, but **N and L are both 16**. The codes are a square, and a square has no long
# side to tell you which way up it is.
#
# ## Predict
#
# Somebody loads the codes with their two axes swapped: `codes[b, n, l]` where `codes[b, l, n]` is meant. Then they do
# what careful people do first: an *overfit test*. Can the network memorize 512 fixed scenes?

# %%
STOPS, NOTHING = "stops with a shape error", "does not learn: its error stays near 1"
WORSE = "memorizes them, but clearly worse than with the right codes"
AS_WELL = "memorizes them as well as with the right codes, or better"
predict("01.overfit_test", "With the axes of the codes swapped, the network …", [STOPS, NOTHING, WORSE, AS_WELL])

# %% [markdown]
# ## The experiment
#
# The same network, the same 512 scenes, the same first parameters; 30 epochs each. Only the codes differ. Then both
# networks are asked about 1024 scenes that they have never seen, each given the codes in the form it learned from.


# %%
def swapped(batch):
    return replace(batch, codes=batch.codes.transpose(1, 2).contiguous())


def memorizing(spoil):
    run = reference_trainer("overfit", seed, device=device)
    scenes = spoil(run.scenes.scenes)
    run.scenes, run.validation = FixedScenes(scenes, micro_batch=32, seed=seed), scenes
    return run


@torch.no_grad()
def score(run, batch):
    """NMSE on some scenes; the truth is always theirs, whatever became of the inputs."""
    return run.model(batch.y, batch.H, batch.codes, batch.snr_db).nmse(batch).mean().item()


runs = {
    "right codes": (memorizing(lambda batch: batch), held_out),
    "swapped codes": (memorizing(swapped), swapped(held_out)),
}
train_together(*(run for run, others in runs.values()))
scores = {}
for name, (run, others) in runs.items():
    memorized, held = run.history[-1]["validation"], score(run, others)
    scores[name] = {"on the 512 memorized scenes": memorized, "on 1024 other scenes": held}

# %% tags=["hide-input"]
plots.show(
    memorized_and_held_out(scores),
    "Two rows of two dots on a logarithmic axis. With right codes the error is below 0.01 on memorized scenes and "
    "about 0.3 on others. With swapped codes it is even lower on memorized scenes, and above 1, worse than knowing "
    "nothing, on others.",
)

# %%
right, wrong = (list(scores[name].values()) for name in runs)
seen = AS_WELL if wrong[0] <= 1.1 * right[0] else NOTHING if wrong[0] > 0.8 else WORSE
outcome(
    "01.overfit_test",
    seen,
    because="The codes of a scene never change here, so a scramble of them is as good a name for the scene. "
    "To memorize is to tell scenes apart, not to know what they mean.",
)

# %% tags=["hide-input"]
measure("01.memorized_right", right[0])
measure("01.memorized_swapped", wrong[0])
measure("01.held_out_right", right[1])
measure("01.held_out_swapped", wrong[1])

# %% [markdown]
# No error was raised. The overfit test is passed: <span data-claim="01.memorized_swapped">0.0048</span> with swapped
# codes, against
# <span data-claim="01.memorized_right">0.0085</span> with the right ones. Only scenes that were never seen tell them
# apart:
# <span data-claim="01.held_out_right">0.3</span> with the right codes,
# <span data-claim="01.held_out_swapped">1.1</span> with the swapped ones, where 1 is about what one gets by always
# answering "the same power from everywhere".
#
# **Why.** The network multiplies what it received by the conjugate of the code, to undo what the RIS did, *before* it
# averages over the snapshots. With another snapshot's code it undoes something that was never done, and the phases, in
# which directions are written, average away. The shapes agreed because two axes happened to be equally long.
#
# **At another size** the same slip is caught at once:

# %%
larger = Simulator(preset("near_field"), device)
theirs = larger.draw(2, scene_generator(seed, "lesson 01", device=device))
try:
    swapped(theirs)
except ValueError as error:
    print("ValueError:", error)

# %% [markdown]
# A cheap habit follows: **test with sizes that are all different.** It costs nothing, and turns a silent swap into an
# error message.
#
# ## A law sees what a shape cannot
#
# Shapes are about lengths. What the axes *mean* is in the model, and the model can be asked. Two laws hold of right
# data:
#
# 1. $H_l = G c_l$: so $\|H - G c\| / \|H\|$ is zero, to rounding.
# 2. $y_l$ is a complex Gaussian of covariance
#    $C_l = G\,\mathrm{diag}(c_l)\, R \,\mathrm{diag}(c_l)^H G^H + \sigma^2 I$. So
#    $y_l^H C_l^{-1} y_l / M$ is 1 on average. It takes y, codes, G, R and the noise together, and needs no network.
#
# Here are ten slips, and an eleventh below, to be held against shapes, against both laws, and against the network that
# learned from the right data.


# %%
def rows_for_columns(tensor, axis):
    return tensor.unflatten(axis, (4, 4)).transpose(axis, axis + 1).flatten(axis, axis + 1)


slips = {
    "none": lambda b: b,
    "codes: snapshots for elements": swapped,
    "codes: rows for columns of the RIS": lambda b: replace(b, codes=rows_for_columns(b.codes, 2)),
    "codes: imaginary part first": lambda b: replace(b, codes=b.codes.flip(-1)),
    "y: imaginary part first": lambda b: replace(b, y=b.y.flip(-1)),
    "y: stored [M, L], read by reshape(L, M)": lambda b: replace(b, y=b.y.transpose(1, 2).reshape(b.y.shape)),
    "y: antennas in reverse": lambda b: replace(b, y=b.y.flip(2)),
    "y: one snapshot late": lambda b: replace(b, y=b.y.roll(1, 1)),
    "y: of the next scene": lambda b: replace(b, y=b.y.roll(1, 0)),
    "H: of the next scene": lambda b: replace(b, H=b.H.roll(1, 0)),
    "snr_db: of the next scene": lambda b: replace(b, snr_db=b.snr_db.roll(1, 0)),
}

# %% [markdown]
# The eleventh is in the label: R transposed. `check_contract` raises where a shape is wrong; for each slip it says
# nothing.

# %%
trained, G = runs["right codes"][0], simulator.G
residual, power, error = {}, {}, {}
for name, slip in slips.items():
    spoilt = slip(held_out)
    check_contract(student, spoilt.y, spoilt.H, spoilt.codes, spoilt.snr_db)
    residual[name] = channel_residual(spoilt.H, spoilt.codes, G)
    power[name] = whitened_power(spoilt, G)
    error[name] = score(trained, spoilt)

mirrored, name = held_out.covariance().mT, "R (label): transposed"
with torch.no_grad():
    estimate = trained.model(held_out.y, held_out.H, held_out.codes, held_out.snr_db).covariance()
residual[name], power[name] = residual["none"], whitened_power(held_out, G, mirrored)
error[name] = nmse(estimate, mirrored).mean().item()

# %% tags=["hide-input"]
plots.table(
    ["slip", "shapes", "‖H − G c‖ / ‖H‖", "whitened power of y", "NMSE of the trained network"],
    [(name, "pass", f"{residual[name]:.6f}", f"{power[name]:.2f}", f"{error[name]:.2f}") for name in power],
    "Right: 0, 1, and as low as can be.",
)
measure("01.whitened_right", power["none"])
measure("01.whitened_least_wrong", min(power[name] for name in power if name.startswith(("codes", "y", "R"))))

# %% [markdown]
# Read down the columns. *Shapes* never speak. The first law sees what is wrong with codes and H. The whitened power is
# <span data-claim="01.whitened_right">1.00</span> for right data and at least
# <span data-claim="01.whitened_least_wrong">10</span> for every slip of y, codes or label, before anything was trained.
#
# And read the two lines before the last with care: another scene's H, or another scene's snr_db, and the error hardly
# moves, or not at all. This network does not read H, since the site is known to it, and makes little of snr_db. **What
# a network does not use, its error cannot test.** The first law tests H; nothing in this table looks at snr_db. Which
# law would do that?
#
# ## Find and mend: the label
#
# Three exercises. The first makes R from the steering vectors and powers. It is Hermitian, its trace is right, its
# eigenvalues are right.

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
# ## Find and mend: the loader
#
# The receiver's files hold one complex array a scene, antennas first: [B, M, L]. The contract wants pairs, snapshots
# first. The shape that comes out of this loader is right.

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
# ## Find and mend: the check
#
# This one guards a loader. It has never complained. It is tried on right and on spoilt codes; there are as many
# snapshots as elements.

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
    right = torch.view_as_complex(codes) @ G.T
    return torch.allclose(torch.view_as_complex(H), right, rtol=1e-4, atol=1e-4)


# %%
check("01.codes_fit", codes_fit)

# %% [markdown]
# ## Where this happened to others
#
# - **Informer**, a network for long time series whose paper won an award at AAAI 2021: its attention turned
#   [B, L, H, D] into [B, H, L, D] by `view`, which keeps the order in memory and scrambles heads and time. The shapes
#   agreed. A reader asked why no `permute`; the authors answered that it was an error of the current branch, and would
#   be mended (`zhouhaoyi/Informer2020#59`, March 2021, closed).
# - PyTorch's own documentation of `view` was questioned for inviting just this
#   (`pytorch/pytorch#16560`, January 2019, closed; a warning example was offered).
# - **The case of this course** (lesson 06): a steering helper in one loss term returned the *conjugate*. The right
#   vector and this one had the same shape, type and length; their overlap was
#   <span data-quoted="the case file">0.037</span> instead of 1.
#
# ## In three lines
#
# - A shape says how long an axis is, not what it means; equal lengths hide a swap, so test with all sizes different.
# - An overfit test shows that a network can memorize, and a scramble is as easy to memorize as the truth.
# - Write down one law that ties the tensors together, and try it on the data before you train.
#
# **Onward.** Estimates and labels are compared by their NMSE, after both were scaled to the same trace. What that buys,
# and what it costs: [02 · What scale invariance buys](02_nmse_trace_normalization.ipynb).
