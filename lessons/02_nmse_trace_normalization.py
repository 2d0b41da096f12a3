# ---
# jupyter:
#   kernelspec:
#     display_name: Python 3
#     language: python
#     name: python3
# ---

# %% [markdown]
# # 02 · What scale invariance buys, and what it costs
#
# **Question.** The loss of this course scales every matrix to trace $N$ before it compares. What does that buy, and
# what does it cost?
#
# You will be able to say what a scale-invariant loss does to a gradient, why a constant learning rate is not constant
# under it, and how to guard a division without hiding what it was about to tell you. About 40 minutes to read; under a
# minute to run. Lesson 01 helps; you need to know what a gradient is.

# %% tags=["parameters"]
profile = "cpu"
seed = 0

# %%
# about 5 s, most of it to load PyTorch
import math

import torch

from covlab import plots
from covlab.course import check, choose_device, measure, outcome, predict
from covlab.course.experiments import trace_normalization as lab
from covlab.plots import scale_invariance as pictures
from covlab.training.loss import nmse

device = choose_device(profile)

# %% [markdown]
# ## An error that forgives the scale
#
# A network hears a few noisy snapshots and estimates a covariance $R$. How *loud* the sources are, it cannot know: the
# level of a snapshot depends on distances and losses that nobody tells it. What locates a source is the *shape* of $R$.
# So both matrices are first scaled to the same trace, and only then compared:
#
# $$\mathrm{NMSE}(\hat R, R) = \frac{\lVert c\hat R - R\rVert_F^2}{\lVert R\rVert_F^2},\qquad
# c = \frac{N}{\operatorname{tr}\hat R},\qquad \operatorname{tr} R = N .$$
#
# (The project this course retells once compared with a sample covariance that nobody had scaled. Its loss was
# <span data-quoted="the reviewed project's report of 23 October 2025">1.7e25</span>.)
#
# Take two scenes with covariances $R$ and $R'$, and mix an estimate $\hat R = xR + yR'$ from them. The truth is $R$, at
# $x = 1$,
# $y = 0$.

# %% tags=["hide-input"]
plots.show(
    pictures.error_surfaces(lab.surfaces(seed)),
    "Two contour plots over the shares x of R and y of R', with arrows of steepest descent. Left, the plain "
    "error is a bowl around the truth, and all arrows lead down into it. Right, the normalized error is constant "
    "along every ray from the origin, zero on the whole axis y = 0, and all arrows run at right angles to the "
    "rays, on circles around the origin.",
)

# %% [markdown]
# Left is a bowl with one lowest point. Right is a fan: along a ray from the origin nothing changes, and *every*
# positive multiple of $R$ is right. That is what the normalization buys. Now look at the arrows on the right, the way a
# gradient step goes. They never point inwards or outwards.

# %%
slopes = {
    (name, scale): lab.slope(error, scale, seed)
    for name, error in (("plain", lab.plain_error), ("normalized", nmse))
    for scale in (0.1, 1.0, 10.0)
}
plots.table(
    ["error", "R̂ scaled by", "its value", "length of its gradient", "cosine between gradient and R̂"],
    [
        (name, scale, round(slope.error, 3), round(slope.length, 4), round(slope.radial, 3) + 0.0)
        for (name, scale), slope in slopes.items()
    ],
    "Half of R and half of R', at three scales.",
)

# %% tags=["hide-input"]
normalized = {scale: slope for (name, scale), slope in slopes.items() if name == "normalized"}
measure("02.radial", max(abs(slope.radial) for slope in normalized.values()))
measure("02.gradient_at_ten", normalized[10.0].length / normalized[1.0].length)

# %% [markdown]
# **Why.** Let $f(c\hat R) = f(\hat R)$ for every $c > 0$. Differentiate by $c$ at $c = 1$: the left side gives
# $\langle\nabla f, \hat R\rangle$, the right side gives zero. So the gradient is at right angles to $\hat R$, always:
# its cosine is
# <span data-claim="02.radial">0.000</span>, rounding apart. Differentiate by $\hat R$ instead:
# $\nabla f(c\hat R) = \nabla f(\hat R)/c$. At ten times the scale the gradient is
# <span data-claim="02.gradient_at_ten">0.10</span>&nbsp;times as long.
#
# Keep these two facts. Everything below follows from them.

# %% [markdown]
# ## Find and mend: one scale for each scene
#
# The error of a whole batch: the mean over its scenes. This one is wrong, and runs.


# %% tags=["exercise"]
def normalized_error(estimates, truths):
    """Mean over the scenes of ‖R̂ − R‖² / ‖R‖², both scaled to trace N: two [B, N, N] -> one number."""

    def to_trace_n(matrices):
        trace = matrices.diagonal(dim1=1, dim2=2).real.sum()
        return matrices * (matrices.shape[1] / trace)

    error = (to_trace_n(estimates) - to_trace_n(truths)).abs().square().sum(dim=(1, 2))
    return (error / to_trace_n(truths).abs().square().sum(dim=(1, 2))).mean()


# %% tags=["solution"]
def normalized_error(estimates, truths):
    """Mean over the scenes of ‖R̂ − R‖² / ‖R‖², both scaled to trace N: two [B, N, N] -> one number."""

    def to_trace_n(matrices):
        trace = matrices.diagonal(dim1=1, dim2=2).real.sum(dim=1)  # one for each scene
        return matrices * (matrices.shape[1] / trace).view(-1, 1, 1)

    error = (to_trace_n(estimates) - to_trace_n(truths)).abs().square().sum(dim=(1, 2))
    return (error / to_trace_n(truths).abs().square().sum(dim=(1, 2))).mean()


# %%
check("02.normalized_error", normalized_error)

# %% [markdown]
# ## The price: a schedule nobody wrote
#
# Now train. In miniature: the only parameter is $\hat R$ itself, one matrix for all scenes, and each step minimizes the
# mean NMSE over 16 of them. (It can only find the best constant guess; that is enough here.) The learning rate is
# constant. The gradient, you have just seen, has no part along $\hat R$.

# %%
predict(
    "02.norm",
    "No gradient ever points inwards or outwards. Under plain SGD the norm of R̂ …",
    ["stays as it is", "grows", "shrinks"],
)

# %%
predict(
    "02.ten_times",
    "A second run starts at ten times the first one's R̂: to the loss the very same matrix. "
    "With the same learning rate, its first SGD step turns R̂ …",
    ["by the same angle", "by a tenth of the angle", "by a hundredth of the angle"],
)

# %%
# about 9 s
optimizers = {
    "SGD": lambda parameters: torch.optim.SGD(parameters, lr=10.0),
    "Adam": lambda parameters: torch.optim.Adam(parameters, lr=0.01),
    "AdamW, weight decay 0.3": lambda parameters: torch.optim.AdamW(parameters, lr=0.01, weight_decay=0.3),
}
runs = {
    name: [lab.walk(make, seed, start=start, device=device) for start in (1.0, 10.0)]
    for name, make in optimizers.items()
}

# %% tags=["hide-input"]
plots.show(
    pictures.walks(runs, ["started at 1×", "started at 10×"]),
    "Three panels over 1000 steps, for SGD, Adam and AdamW, each started at one scale and at ten times it. The "
    "norm grows under SGD from 1×, and hardly moves from 10×; Adam changes it slowly; AdamW pulls both starts "
    "towards the same small norm. The turn of a step falls throughout under SGD and Adam and is far smaller from "
    "10×; under AdamW both starts end with the same turn. The held-out error falls slowest for SGD from 10×.",
)

# %%
sgd, sgd_ten = runs["SGD"]
adam, adam_ten = runs["Adam"]
decayed, decayed_ten = runs["AdamW, weight decay 0.3"]
growth = sgd.norms[-1] / sgd.norms[0]
happened = "grows" if growth > 1.01 else "shrinks" if growth < 0.99 else "stays as it is"
outcome("02.norm", happened, because="Each step is a tangent, and a tangent leaves the circle.")

# %%
first_turns = sgd.turns[0] / sgd_ten.turns[0]
angles = ["by the same angle", "by a tenth of the angle", "by a hundredth of the angle"]
outcome(
    "02.ten_times",
    angles[round(math.log10(first_turns))],
    because="Ten times from the gradient, which is shorter, and ten times from R̂, which is longer.",
)


# %% tags=["hide-input"]
def late(walk):
    """Mean turn of the last hundred steps, in degrees."""
    return sum(walk.turns[-100:]) / 100


squares = sum((10.0 * gradient) ** 2 for gradient in sgd.gradients)
measure("02.sgd_growth", growth)
measure("02.pythagoras", (sgd.norms[0] ** 2 + squares) ** 0.5 / sgd.norms[-1])
measure("02.first_turns_sgd", first_turns)
measure("02.first_turns_adam", adam.turns[0] / adam_ten.turns[0])
measure("02.adam_slowdown", adam.turns[0] / late(adam))
measure("02.sgd_slowdown", sgd.turns[0] / late(sgd))
measure("02.late_turns_adam", late(adam) / late(adam_ten))
measure("02.late_turns_adamw", late(decayed) / late(decayed_ten))
measure("02.sgd_ten_error", sgd_ten.validation[1000])
measure("02.sgd_error", sgd.validation[200])

# %% [markdown]
# **Why the norm grows.** A step at right angles is a tangent: it can only lead away from the origin. By Pythagoras the
# squares add,
#
# $$\lVert\hat R_{t+1}\rVert^2 = \lVert\hat R_t\rVert^2 + \eta^2\lVert\nabla_t\rVert^2 .$$
#
# Over 1000 steps the norm grows <span data-claim="02.sgd_growth">1.75</span>-fold, and the sum of squares foretells the
# norm it ends with: foretold over measured is <span data-claim="02.pythagoras">1.000</span>.
#
# **Why that matters.** What the loss sees is the *direction* of $\hat R$. A step of length $\eta\lVert\nabla\rVert$
# turns it by about
# $\eta\lVert\nabla\rVert/\lVert\hat R\rVert$, and the gradient itself goes with $1/\lVert\hat R\rVert$. So the learning
# rate that counts is
#
# $$\eta_{\text{effective}} = \frac{\eta}{\lVert\hat R\rVert^2}\ \text{(SGD)},\qquad
# \frac{\eta}{\lVert\hat R\rVert}\ \text{(Adam, whose steps do not know the gradient's length)}.$$
#
# - From ten times the start, SGD's first step turns $\hat R$
#   <span data-claim="02.first_turns_sgd">100</span>&nbsp;times less, Adam's
#   <span data-claim="02.first_turns_adam">10</span>&nbsp;times less. After 1000 steps, SGD from 10× stands at an error
#   of
#   <span data-claim="02.sgd_ten_error">0.88</span>; from 1× it had
#   <span data-claim="02.sgd_error">0.86</span>, as good as it gets, after 200. The loss cannot tell these two starts
#   apart. The optimizer can.
# - As the norm grows, the learning rate falls, and nobody wrote that schedule. Under SGD the last steps turn about
#   <span data-claim="02.sgd_slowdown">6</span>&nbsp;times less than the first. A part of that is the gradient, which is
#   smaller near the minimum; Adam's steps do not know its length, and still the first step's turn is
#   <span data-claim="02.adam_slowdown">8</span>&nbsp;times the last ones', mostly because its early steps all agree and
#   the late ones do not.
# - **AdamW** pulls $\hat R$ to the origin a little at every step. The pull grows with the norm, the outward drift
#   shrinks with it, and the two meet at a norm of their own, wherever the run began: the last steps turn alike (ratio
#   <span data-claim="02.late_turns_adamw">1.1</span>), where Adam's differ by
#   <span data-claim="02.late_turns_adam">4</span>, though the run from 10× is still on its way down. Under a
#   scale-invariant loss weight decay regularizes nothing: scaling $\hat R$ down does not change what it says. It is a
#   thermostat of the learning rate.
#
# (Adam divides element by element, so its step is *not* at right angles to $\hat R$: from 10×, its norm even falls.
# That the gradient has no radial part does not bind an optimizer that bends the gradient.)

# %% [markdown]
# ## Find and mend: where the steps lead
#
# SGD on a scale-invariant loss. Somebody reasons: no step points outwards, so the norm does not change.


# %% tags=["exercise"]
def norm_after(norm, learning_rate, gradients):
    """Norm of R̂ after SGD steps, from the norm before and each step's gradient norm [steps] -> one number."""
    return norm


# %% tags=["solution"]
def norm_after(norm, learning_rate, gradients):
    """Norm of R̂ after SGD steps, from the norm before and each step's gradient norm [steps] -> one number."""
    square = norm**2
    for gradient in gradients:
        square += (learning_rate * gradient) ** 2
    return square**0.5


# %%
check("02.norm_after", norm_after)

# %% [markdown]
# ## Where the invariance ends: half precision
#
# On paper every scale is as good as any other. A computer has only so many. Many a code adds a small number for safety,
# $N/(\operatorname{tr}\hat R + \varepsilon)$ with $\varepsilon = 10^{-8}$. Below, $\hat R = sR$ is *right* for every
# $s$; what is computed should be zero throughout.

# %%
scales = [3 * 10.0**exponent for exponent in range(-12, 9)]
curves = {
    name: {scale: lab.half_error(scale, dtype, seed) for scale in scales}
    for name, dtype in (("float32", torch.float32), ("bfloat16", torch.bfloat16), ("float16", torch.float16))
}

# %% tags=["hide-input"]
plots.show(
    pictures.scale_range(curves),
    "Computed error of a right estimate over its scale from 3e-12 to 3e8, in three precisions. In float32 and bfloat16 "
    "it is small at large scales and rises to 1 below 1e-8, as eps takes over. In float16 it is small only from "
    "3e-5 to 3e3; at 3e4 it is exactly 1, and not finite beyond and below.",
)

# %%
largest = torch.finfo(torch.float16).max / 16
measure("02.fp16_overflow", lab.half_error(3e4, torch.float16, seed))
measure("02.eps_wins", lab.half_error(3e-10, torch.float32, seed))
print("ε in float16:", torch.tensor(lab.EPS, dtype=torch.float16).item())
print("largest s whose trace is finite in float16:", largest)

# %% [markdown]
# Three different ends:
#
# - **ε is a scale.** It was to prevent a division by zero; it also says how small a matrix may be. At
#   $s = 3\cdot10^{-10}$ a perfect estimate has an error of <span data-claim="02.eps_wins">0.46</span>, without a
#   warning.
# - **In float16 ε is not there.** The smallest positive number is about $6\cdot10^{-8}$; the guard rounds to zero and
#   guards nothing. Of a small matrix $N/\operatorname{tr}\hat R$ is infinite, and infinity times zero is NaN.
# - **In float16 large is soon infinite.** At $s = 3\cdot10^4$ the trace is infinite, $\hat R\cdot N/\infty$ is zero,
#   and a perfect estimate scores
#   <span data-claim="02.fp16_overflow">1.00</span>: "knows nothing". No NaN, no exception. It is the most dangerous
#   point of the picture.
#
# This is why covlab computes its loss in single precision, outside autocast (lesson 04), and why its threshold has no
# unit: the trace is held against the *norm* of the same matrix.

# %% [markdown]
# ## Through zero: what a clamp hides
#
# A network that may return any Hermitian matrix can return one with a negative trace. It is no covariance, and no
# positive scale makes it one. Let $\hat R = R - tI$ walk there.

# %%
shifts = [number / 50 for number in range(101)]
walked = [lab.shifted(shift, seed) for shift in shifts]
errors = {
    "trace clamped to at least 1e-8": [lab.clamped(*pair).item() for pair in walked],
    "absolute value of the trace": [lab.absolute(*pair).item() for pair in walked],
    "covlab: NaN from zero on": [nmse(*pair).item() for pair in walked],
}

# %% tags=["hide-input"]
plots.show(
    pictures.trace_crossing([1 - shift for shift in shifts], errors),
    "Error over the trace from N down to minus N, on a logarithmic axis. All three agree while the trace is positive, "
    "and rise steeply as it falls. At zero the clamped error jumps to about 1e18 and stays there; with the absolute "
    "value it peaks and comes down again below 1; covlab's line ends.",
)

# %% tags=["hide-input"]
estimate, truth = lab.shifted(2.0, seed)
measure("02.clamped_digits", torch.log10(lab.clamped(estimate, truth)))
measure("02.absolute_error", lab.absolute(estimate, truth))
estimate.requires_grad_()
(pull,) = torch.autograd.grad(lab.clamped(estimate, truth).sum(), estimate)
measure("02.clamped_radial", ((pull.conj() * estimate).sum().real / (pull.norm() * estimate.norm())).detach())

# %% [markdown]
# - **Clamped**, the loss jumps to a number with <span data-claim="02.clamped_digits">18</span>&nbsp;zeros and stays
#   there. Worse, look at its gradient: the clamp cuts the trace out of it, the
#   invariance is gone, and its cosine with $\hat R$ is <span data-claim="02.clamped_radial">1.00</span>. It says: make
#   this matrix smaller. It does not say: make its trace positive.
# - **The absolute value** lets it pass. At a trace of $-N$ the matrix is $R - 2I$: at least 14 of its 16 eigenvalues
#   are $-2$, which no power can be. It scores <span data-claim="02.absolute_error">0.47</span>, better than "knows
#   nothing".
# - **covlab refuses**: the scene's loss is NaN, the step is skipped, and the ledger says which window and how small the
#   trace was. An error that is counted can be found. And covlab's networks cannot get there at all: they return
#   $FF^{\mathsf H} + \varepsilon I$, whose trace is positive.

# %% [markdown]
# ## Find and mend: a guard without a unit
#
# Scale $R$ to trace $N$ if its trace is more than a thousandth of its norm; otherwise return NaNs. (Of $FF^{\mathsf H}$
# the trace is at least the norm; only a matrix that is no covariance gets near a thousandth.)


# %% tags=["exercise"]
def trace_normalized(R):
    """R scaled to trace N [N, N]; all NaN where there is no trace to speak of."""
    trace = R.diagonal().real.sum()
    return R * (len(R) / trace.clamp(min=1e-8))


# %% tags=["solution"]
import torch


def trace_normalized(R):
    """R scaled to trace N [N, N]; all NaN where there is no trace to speak of."""
    trace = R.diagonal().real.sum()
    enough = trace > 1e-3 * torch.linalg.matrix_norm(R)
    return R * torch.where(enough, len(R) / trace, torch.nan)


# %%
check("02.trace_normalized", trace_normalized)

# %% [markdown]
# ## Play with it
#
# Scale, rotate and perturb an estimate; the arrows are the pulls of both errors. Find the angle at which the trace is
# lost.

# %%
from covlab.widgets import NMSEExplorer

explorer = NMSEExplorer(seed)
explorer.show()

# %% [markdown]
# Two of its pictures. Ten times as large, the NMSE is what it was at scale 1, and pulls the same way; at a negative
# trace it is NaN, and the plain error alone pulls:

# %% tags=["hide-input"]
explorer.still_of("Rotated, ten times as large", {"scale": 10.0, "angle": 40.0})
explorer.still_of("A negative trace", {"scale": 1.0, "angle": 100.0})

# %% [markdown]
# ## Where this happened to others
#
# - Every weight before a normalization layer is in the position of our $\hat R$. *AdamP* (Heo et al., ICLR 2021; code:
#   `clovaai/AdamP`) shows that momentum makes such norms grow far faster still, so that the effective step size decays
#   too early. Its remedy is to take the radial part out of every update, and it reports gains in 13 benchmarks.
# - `pytorch/pytorch#32137`, open since January 2020: the ε of `torch.nn.functional.normalize` is $10^{-12}$, which is
#   zero in half precision, so a vector of zeros comes out as NaN. bfloat16, with the range of single precision, is not
#   affected.
#
# ## In three lines
#
# - A scale-invariant loss has a gradient at right angles to what it judges: it forgives the level, and lets the norm
#   drift.
# - The norm is then a learning rate: what the loss cannot see, the optimizer can.
# - Every guard of a division has a scale of its own; hold the divisor against something of the same unit, and refuse
#   aloud.
#
# **Onward.** The NMSE is one of nine terms. What do the other eight pull at, and how hard?
# [03 · Nine terms and their weights](03_loss_terms_and_weights.ipynb)
