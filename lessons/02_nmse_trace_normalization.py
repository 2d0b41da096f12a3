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
# **Question.** The loss of this course ignores the scale of an estimate. What do you gain, and what does it cost?
#
# **Whole course** 3 of 12 · 40 minutes · 01 helps
#
# Afterwards you can say what such a loss does to a gradient. You can work out which learning rate really counts. And
# you can guard a division without hiding the problem that the guard should report.

# %% tags=["parameters"]
profile = "cpu"
seed = 0

# %%
# Loading PyTorch takes about 5 s.
import torch

from covlab.course import check, choose_device, outcome, predict
from covlab.course.experiments import trace_normalization as lab
from covlab.widgets import NMSEExplorer

device = choose_device(profile)

# %% [markdown]
# ## A matrix as an arrow
#
# The network estimates a 16 × 16 matrix R for each training example, called a *scene*. (Lesson 01 explains what R
# describes.) A matrix is a list of numbers, so you can think of it as an arrow. Its length is the *norm*: the square
# root of the sum of the squares of all entries. Its direction is everything else: how the entries compare with each
# other.
#
# In the first panel, the star is the tip of the true R, and the blue dot is the tip of the estimate R̂. The open
# diamond is R̂ after it was scaled to the size of R. The title shows two errors. The *plain error* compares the dot
# with the star. The *NMSE* compares the diamond with the star. Try this:
#
# 1. Move **scale**. The dot moves along the gray line. Watch both errors: the plain error changes, and the NMSE does
#    not.
# 2. Set **angle** to 0, so that R̂ points the same way as R. Now the NMSE is 0 at every scale.
# 3. Set **angle** to 40, and look at the two arrows at the dot. Each shows the *pull* of one error: where a
#    gradient step would move the dot. Move **scale** again. One arrow changes its direction, and the other does not.

# %%
explorer = NMSEExplorer(seed)
explorer.show()

# %% tags=["hide-input"]
# Draws an estimate at 40 degrees, at two scales
explorer.still_of("Scale 1, angle 40 degrees", {"scale": 1.0, "angle": 40.0, "noise": 0.0})
explorer.still_of("Scale 10, angle 40 degrees", {"scale": 10.0, "angle": 40.0, "noise": 0.0})

# %% [markdown]
# ## An error that ignores the scale
#
# Why would you want such an error? The network sees a few noisy *snapshots* of radio sources: what some antennas
# receive. It cannot know how *loud* the sources are, because the level of a snapshot depends on distances and losses
# that nobody tells it. But the direction of R is enough to find the positions of the sources. So we first scale both
# matrices to the same *trace*, the sum of the diagonal. Then we compare them. This is the *normalized mean squared
# error*, NMSE, for matrices of size N × N:
#
# $$\mathrm{NMSE}(\hat R, R) = \frac{\lVert c\hat R - R\rVert^2}{\lVert R\rVert^2},\qquad
# c = \frac{N}{\operatorname{tr}\hat R},\qquad \operatorname{tr} R = N .$$
#
# (The project of lessons 00 and 06 once forgot to scale one of the two matrices. Its loss was
# <span data-quoted="the reviewed project's report of 23 October 2025">1.7e25</span>.)
#
# To draw the error as a map, take the matrices $R$ and $R'$ of two scenes and mix them: $\hat R = xR + yR'$. The truth
# is $R$, at $x = 1$ and $y = 0$.

# %% tags=["hide-input"]
# Draws both errors over the mixtures of two covariances
import math

from covlab import plots
from covlab.course import measure
from covlab.plots import scale_invariance as pictures
from covlab.training.loss import nmse

plots.show(
    pictures.error_surfaces(lab.surfaces(seed)),
    "Two contour plots over the shares x of R and y of R', with arrows of steepest descent. Left, the plain "
    "error is a bowl around the truth, and all arrows lead down into it. Right, the normalized error is constant "
    "along every ray from the origin. It is zero on the axis y = 0. All arrows are at right angles to the rays, on "
    "circles around the origin.",
)

# %% [markdown]
# The left error is a bowl with one lowest point. The right one is constant along every ray from the origin: *every*
# positive multiple of $R$ is correct. That is the gain.
#
# The arrows show which way a gradient step goes. On the right, they never point inwards or outwards, that is, toward
# the origin or away from it. The next table measures this, for an estimate that is half $R$ and half $R'$. The cosine
# between two vectors is 0 if they are at right angles.

# %% tags=["hide-input"]
# Measures the gradient of both errors at three scales
slopes = {
    (name, scale): lab.slope(error, scale, seed)
    for name, error in (("plain", lab.plain_error), ("normalized", nmse))
    for scale in (0.1, 1.0, 10.0)
}
plots.table(
    ["error", "scale of R̂", "its value", "length of its gradient", "cosine between gradient and R̂"],
    [
        (name, scale, round(slope.error, 3), round(slope.length, 4), round(slope.radial, 3) + 0.0)
        for (name, scale), slope in slopes.items()
    ],
    "Half of R and half of R', at three scales.",
)
normalized = {scale: slope for (name, scale), slope in slopes.items() if name == "normalized"}
measure("02.radial", max(abs(slope.radial) for slope in normalized.values()))
measure("02.gradient_at_ten", normalized[10.0].length / normalized[1.0].length)

# %% [markdown]
# Two facts about the gradient of the normalized error:
#
# 1. **It is at right angles to** $\hat R$. The cosine is <span data-claim="02.radial">0.000</span>.
# 2. **It shrinks as** $\hat R$ **grows.** At ten times the scale it is
#    <span data-claim="02.gradient_at_ten">0.1</span>&nbsp;times as long.
#
# **Why.** The error $f$ ignores the scale, so $f(c\hat R) = f(\hat R)$ for every $c > 0$. Differentiate both sides with
# respect to $c$, at $c = 1$. The left side becomes $\langle\nabla f, \hat R\rangle$ and the right side zero: fact 1.
# Now differentiate both sides with respect to $\hat R$. The result is $\nabla f(c\hat R) = \nabla f(\hat R)/c$: fact 2.
#
# Everything below follows from these two facts.

# %% [markdown]
# ## Find and fix: the error of a batch
#
# Somebody wrote this function for a whole batch. It should return the mean NMSE over the scenes. It is correct only if
# all scenes are equally loud.


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
# ## The cost: a schedule that nobody wrote
#
# Now we train, but without a network. The only parameter is $\hat R$ itself, one matrix for all scenes. Each step
# lowers the mean NMSE over 16 scenes. (So $\hat R$ can only become the best constant guess, which is enough here.) The
# learning rate is constant.

# %%
NORMS = ["stays as it is", "grows", "shrinks"]
predict("02.norm", "The gradient never points inwards or outwards. Under plain SGD, the norm of R̂ …", NORMS)

# %%
ANGLES = ["by the same angle", "by a tenth of the angle", "by a hundredth of the angle"]
predict(
    "02.ten_times",
    "A second run starts from the same R̂, times ten. To the loss, this is the same matrix. "
    "Compared with the first run, and with the same learning rate, its first SGD step turns R̂ …",
    ANGLES,
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
# Shows both outcomes, and draws all six runs
sgd, sgd_ten = runs["SGD"]
adam, adam_ten = runs["Adam"]
decayed, decayed_ten = runs["AdamW, weight decay 0.3"]
growth, first_turns = sgd.norms[-1] / sgd.norms[0], sgd.turns[0] / sgd_ten.turns[0]
outcome(
    "02.norm",
    NORMS[1] if growth > 1.01 else NORMS[2] if growth < 0.99 else NORMS[0],
    because="A step at right angles to R̂ goes along the tangent of a circle. The whole tangent lies outside the "
    "circle, except for the point where the step starts.",
)
outcome(
    "02.ten_times",
    ANGLES[round(math.log10(first_turns))],
    because="The gradient is a tenth as long. And a step of the same length turns an R̂ that is ten times as long by "
    "only a tenth of the angle.",
)
plots.show(
    pictures.walks(runs, ["started at 1×", "started at 10×"]),
    "Three panels over 1000 steps, for SGD, Adam and AdamW, each started at one scale and at ten times that scale. The "
    "norm grows under SGD from 1×, and hardly moves from 10×. Adam changes it slowly. AdamW pulls both starts "
    "toward the same small norm. With SGD and Adam, the turn per step always falls, and is far smaller from 10×. "
    "With AdamW, both starts end with the same turn. The held-out error falls slowest for SGD from 10×.",
)


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
# Look at the left panel: under SGD, the norm of the run that started at 1× grows all the time. By how much? Work it out
# before you read on.
#
# ## Find and fix: the norm after some steps
#
# Somebody reasons: no gradient points outwards, so the norm does not change.


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
# ## The learning rate that counts
#
# **Why the norm grows.** Each step is at right angles to $\hat R$. So by Pythagoras the squares add up, where $\eta$ is
# the learning rate:
#
# $$\lVert\hat R_{t+1}\rVert^2 = \lVert\hat R_t\rVert^2 + \eta^2\lVert\nabla_t\rVert^2 .$$
#
# Over 1000 steps, the norm becomes <span data-claim="02.sgd_growth">1.68 to 1.78</span>&nbsp;times as large, depending
# on the seed. The formula predicts this exactly: predicted over measured is
# <span data-claim="02.pythagoras">1.000</span>.
#
# **Why it matters.** The loss only sees the *direction* of $\hat R$. A step of length $\eta\lVert\nabla\rVert$ turns it
# by about $\eta\lVert\nabla\rVert/\lVert\hat R\rVert$. By fact 2, the gradient is also proportional to
# $1/\lVert\hat R\rVert$. So the learning rate that counts is
#
# $$\eta_{\text{effective}} = \frac{\eta}{\lVert\hat R\rVert^2}\ \text{for SGD},\qquad
# \frac{\eta}{\lVert\hat R\rVert}\ \text{for Adam, whose steps do not depend on the length of the gradient}.$$
#
# You can see three consequences in the figure:
#
# - **The start matters.** From 10×, the first step of SGD turns $\hat R$
#   <span data-claim="02.first_turns_sgd">99 to 100</span>&nbsp;times less than from 1×. For Adam it is
#   <span data-claim="02.first_turns_adam">10</span>&nbsp;times less. The loss cannot distinguish these two starts, but
#   the optimizer can. From 1×, SGD reaches a held-out error (on new scenes) of
#   <span data-claim="02.sgd_error">0.85 to 0.87</span> in 200 steps, and it does not get better after that. From 10×,
#   it is still at <span data-claim="02.sgd_ten_error">0.87 to 0.88</span> after 1000 steps.
# - **The effective learning rate falls, although nobody wrote a schedule.** Under SGD, the first step turns $\hat R$
#   <span data-claim="02.sgd_slowdown">5 to 8</span>&nbsp;times as far as the last ones. Part of the reason is the
#   gradient, which is shorter near the minimum. Adam does not depend on that length, but its first step also turns
#   $\hat R$ <span data-claim="02.adam_slowdown">7.5 to 8.5</span>&nbsp;times as far as its last ones. For Adam, the
#   main reason is that its early gradients point the same way, and its late gradients do not.
# - **Weight decay sets the learning rate.** AdamW pulls $\hat R$ a little toward the origin in every step. The larger
#   the norm, the stronger this pull, and the less the norm grows from a step. So the norm settles where the two
#   balance, from any start. (After 1000 steps, the run from 10× is almost there.) In the end, the two AdamW runs turn
#   almost equally far per step (ratio <span data-claim="02.late_turns_adamw">1.1</span>). The two Adam runs differ by a
#   factor of <span data-claim="02.late_turns_adam">4</span>. Under this loss, weight decay does not regularize
#   $\hat R$: scaling it down does not change what it means. Weight decay only controls the effective learning rate.
#
# (Adam rescales each element of the gradient separately, so its step is *not* at right angles to $\hat R$. From 10×,
# the norm even falls. Fact 1 is about the gradient. It says nothing about the step that an optimizer computes from it.)
#
# | What you gain | What it costs |
# |---|---|
# | the network does not have to know the level | the norm drifts, and so does the effective learning rate |
# | every positive multiple of R is correct | the scale at which you start decides how fast you learn |
# | | a division by the trace, which can be tiny, zero or negative |
#
# The rest of this lesson is about the last line.

# %% [markdown]
# ## A division in half precision
#
# On paper, every scale works equally well. But in a computer, numbers have a limited range. The 16-bit type float16 has
# a small range. The other 16-bit type, bfloat16, has the range of float32 but fewer digits. Many programs also add a
# small number to the divisor for safety, $N/(\operatorname{tr}\hat R + \varepsilon)$ with $\varepsilon = 10^{-8}$.
# Below, $\hat R = sR$ is *correct* for every $s$, so the error should be zero everywhere.

# %% tags=["hide-input"]
# Draws the error of a correct estimate over its scale
scales = [3 * 10.0**exponent for exponent in range(-12, 9)]
curves = {
    name: {scale: lab.half_error(scale, dtype, seed) for scale in scales}
    for name, dtype in (("float32", torch.float32), ("bfloat16", torch.bfloat16), ("float16", torch.float16))
}
plots.show(
    pictures.scale_range(curves),
    "Computed error of a correct estimate over its scale from 3e-12 to 3e8, in three precisions. In float32 and "
    "bfloat16 it is small at large scales and rises to 1 below 1e-8, where eps is larger than the trace. In float16 it "
    "is small only from 3e-5 to 3e3. At 3e4 it is exactly 1. At other scales it is not finite.",
)
measure("02.fp16_overflow", lab.half_error(3e4, torch.float16, seed))
measure("02.eps_wins", lab.half_error(3e-10, torch.float32, seed))
print("ε in float16:", torch.tensor(lab.EPS, dtype=torch.float16).item())
print("largest s whose trace is finite in float16:", torch.finfo(torch.float16).max / 16)

# %% [markdown]
# The computed error is wrong in three different ways:
#
# - **ε sets a smallest scale.** It should only prevent a division by zero. But it also decides how small a matrix may
#   be. At $s = 3\cdot10^{-10}$, a perfect estimate gets an error of <span data-claim="02.eps_wins">0.46</span>, without
#   a warning.
# - **In float16 this ε is zero.** The smallest positive number of float16 is about $6\cdot10^{-8}$, so ε is rounded to
#   zero and protects nothing. For a small matrix, $N/\operatorname{tr}\hat R$ is infinite, and infinity times zero is
#   NaN.
# - **In float16, large numbers soon become infinite.** At $s = 3\cdot10^4$ the trace is infinite, and
#   $\hat R\cdot N/\infty$ is zero. A perfect estimate gets an error of <span data-claim="02.fp16_overflow">1.00</span>,
#   like a network that knows nothing. There is no NaN and no exception, so this is the most dangerous point in the
#   figure.
#
# This is why covlab computes its loss in single precision (float32), outside *autocast*. Autocast is the PyTorch
# feature that switches to half precision (lesson 04).

# %% [markdown]
# ## A trace below zero
#
# If a network may return any Hermitian matrix, it may return one with a negative trace. Such a matrix is not a
# covariance: its diagonal should hold powers. No positive scale can fix it. In the explorer above, set **angle** to 100
# to get a negative trace:

# %% tags=["hide-input"]
# Draws an estimate with a negative trace
explorer.still_of("A negative trace", {"scale": 1.0, "angle": 100.0, "noise": 0.0})

# %% [markdown]
# What should the loss do then? The next figure shows three ideas. The estimate is $\hat R = R - tI$, and $t$ grows, so
# that the trace falls from N through zero to −N:
#
# 1. clamp the trace, so that it is at least $10^{-8}$;
# 2. use its absolute value;
# 3. refuse: return NaN.

# %% tags=["hide-input"]
# Draws three losses while the trace falls through zero
shifts = [number / 50 for number in range(101)]
walked = [lab.shifted(shift, seed) for shift in shifts]
errors = {
    "1: trace clamped to at least 1e-8": [lab.clamped(*pair).item() for pair in walked],
    "2: absolute value of the trace": [lab.absolute(*pair).item() for pair in walked],
    "3: covlab, NaN from zero on": [nmse(*pair).item() for pair in walked],
}
plots.show(
    pictures.trace_crossing([1 - shift for shift in shifts], errors),
    "Error over the trace, which falls from N on the left to minus N on the right, on a logarithmic axis. All three "
    "lines agree while the trace is positive, and rise steeply as it falls. At zero the clamped error jumps to about "
    "1e18 and stays there. With the absolute value, the error peaks and comes down again below 1. covlab's line ends.",
)
estimate, truth = lab.shifted(2.0, seed)
measure("02.clamped_digits", torch.log10(lab.clamped(estimate, truth)))
measure("02.absolute_error", lab.absolute(estimate, truth))
estimate.requires_grad_()
(pull,) = torch.autograd.grad(lab.clamped(estimate, truth).sum(), estimate)
measure("02.clamped_radial", ((pull.conj() * estimate).sum().real / (pull.norm() * estimate.norm())).detach())

# %% [markdown]
# 1. **The clamp** makes the loss jump to a number with <span data-claim="02.clamped_digits">18</span>&nbsp;zeros. Its
#    gradient is even worse. A clamped trace is constant, so it contributes no gradient, and fact 1 no longer holds: the
#    cosine between gradient and $\hat R$ is <span data-claim="02.clamped_radial">1.00</span>. The gradient only asks
#    for a smaller matrix. It does not ask for a positive trace.
# 2. **The absolute value** accepts the matrix. At the right end of the figure, the matrix is $R - 2I$, and at least 14
#    of its 16 eigenvalues are $-2$. An eigenvalue of a covariance is a power, so none can be negative. Still the error
#    is only <span data-claim="02.absolute_error">0.2 to 0.5</span>, better than a network that knows nothing.
# 3. **covlab refuses.** The loss of this scene is NaN, and the step is skipped. The *ledger*, the run's log of every
#    step, shows when it happened and how small the trace was. So you can find the problem. covlab's own networks never
#    return a negative trace: they compute a matrix $F$ and return $FF^{\mathsf H} + \varepsilon I$, whose trace is
#    positive.

# %% [markdown]
# ## Find and fix: the guard
#
# This guard should work at every scale of R. If the trace of R is more than a thousandth of its norm, the guard scales
# R to trace N. Otherwise it returns NaNs. (The trace of a covariance is at least as large as its norm. So only a matrix
# that is not a covariance gets near this limit.)


# %% tags=["exercise"]
def trace_normalized(R):
    """R scaled to trace N [N, N]; all NaN if the trace of R is at most a thousandth of its norm."""
    trace = R.diagonal().real.sum()
    return R * (len(R) / trace.clamp(min=1e-8))


# %% tags=["solution"]
import torch


def trace_normalized(R):
    """R scaled to trace N [N, N]; all NaN if the trace of R is at most a thousandth of its norm."""
    trace = R.diagonal().real.sum()
    enough = trace > 1e-3 * torch.linalg.matrix_norm(R)
    return R * torch.where(enough, len(R) / trace, torch.nan)


# %%
check("02.trace_normalized", trace_normalized)

# %% [markdown]
# ## Where this happened to others
#
# - **Every weight before a normalization layer** is like our $\hat R$: the layer removes its scale. *AdamP* (Heo et
#   al., ICLR 2021; code: `clovaai/AdamP`) shows that momentum makes such norms grow much faster, so that the effective
#   step size decays too early. AdamP removes the part of each update that points along the weight. Its authors report
#   gains in 13 benchmarks.
# - **An ε that is zero.** In `torch.nn.functional.normalize`, ε is $10^{-12}$, which is zero in float16. So a vector of
#   zeros becomes NaN. bfloat16 has the range of single precision and is not affected (`pytorch/pytorch#32137`, open
#   since January 2020).
#
# ## In three lines
#
# - The gradient of a loss that ignores the scale is at right angles to the estimate. Nothing in the loss holds the
#   scale, so it drifts.
# - The norm then changes the effective learning rate. The loss cannot see the scale, but the optimizer can.
# - A guard of a division should compare the divisor with something that has the same unit, and report what it refuses.
#
# **Next.** The NMSE is one of nine terms of covlab's loss. What do the others do, and how hard do they pull?
# [03 · Nine terms and their weights](03_loss_terms_and_weights.ipynb)
